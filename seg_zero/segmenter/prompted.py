"""Prompts to masks for any model with an image encoder and a SAM decoder; the models differ in two methods.

Each object becomes one prompt with three candidate masks, of which the one with the best predicted quality counts.
The objects come from a policy and are not trusted: every number has a defined outcome.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.objects import PromptObject, usable_box, usable_points
from seg_zero.segmenter.automatic import find_all
from seg_zero.segmenter.base import LOGIT_LIMIT, Embedding, MaskPrompts, Segmentation
from seg_zero.segmenter.prompts import (
    DECODER_BATCH,
    LOWER_RIGHT,
    NOT_A_POINT,
    ON_OBJECT,
    UPPER_LEFT,
    Candidates,
    Prompt,
)

# A binary mask as logits, as sam2 feeds masks to its prompt encoder: 1 becomes 10 and 0 becomes -10.
MASK_SCALE, MASK_BIAS = 20.0, -10.0


@contextlib.contextmanager
def inference(device: torch.device) -> Iterator[None]:
    """No gradients; bfloat16 on CUDA, as in sam2's examples, and float32 elsewhere."""
    mixed = device.type == "cuda"
    precision = torch.autocast("cuda", dtype=torch.bfloat16) if mixed else contextlib.nullcontext()
    with torch.inference_mode(), precision:
        yield


class PromptedSegmenter(ABC):
    """The protocol :class:`~seg_zero.segmenter.base.Segmenter` over a model's encoder and decoder.

    side: height and width of the model's input; low_res_side: of its mask logits and mask prompts.
    """

    side: int
    low_res_side: int

    @property
    @abstractmethod
    def device(self) -> torch.device: ...

    @abstractmethod
    def _encode(self, images: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """uint8 H x W x 3 arrays to feature maps for the decoder, each B x C x h x w, high resolution first."""

    @abstractmethod
    def _decode(
        self,
        features: list[torch.Tensor],
        coordinates: torch.Tensor,
        labels: torch.Tensor,
        masks: torch.Tensor | None,
    ) -> Candidates:
        """One step of the decoder.

        features: as from :meth:`_encode`, B prompts; coordinates: B x T x 2 in pixels of the model's input;
        labels: int B x T, SAM's labels; masks: float B x 1 x h x w logits of earlier masks, or None.
        """

    def embed(self, images: Sequence[Image.Image]) -> list[Embedding]:
        """Run the image encoder on RGB images, in one batch; each embedding serves any number of prompts."""
        for image in images:
            if image.mode != "RGB":
                raise InputError(f"the image has mode {image.mode}; read it with seg_zero.images.load_image")
        if not images:
            return []
        with inference(self.device):
            *fine, coarse = self._encode([np.array(image) for image in images])  # copies: torch warns of views
            return [
                Embedding(image.size, coarse[i : i + 1].clone(), [level[i : i + 1].clone() for level in fine])
                for i, image in enumerate(images)
            ]

    def segment_all(
        self,
        embeddings: Sequence[Embedding],
        objects: Sequence[Sequence[PromptObject]],
        *,
        mask_prompts: Sequence[MaskPrompts] | None = None,
        low_res: bool = False,
    ) -> list[Segmentation]:
        """Masks of the objects in each embedded image; see :class:`~seg_zero.segmenter.base.Segmenter`."""
        earlier = mask_prompts if mask_prompts is not None else [[None] * len(some) for some in objects]
        found: list[Segmentation] = []
        shapes: dict[tuple[bool, int, bool], list[tuple[int, int, Prompt]]] = {}
        for embedding, some, some_masks in zip(embeddings, objects, earlier, strict=True):
            found.append(self._empty(embedding.size, len(some), low_res))
            if len(some_masks) != len(some):
                raise InputError(f"{len(some_masks)} mask prompts for {len(some)} objects; give one or None for each")
            for index, (item, mask) in enumerate(zip(some, some_masks, strict=True)):
                box, points = usable_box(item.box, *embedding.size), usable_points(item.points, *embedding.size)
                if box is not None or points or mask is not None:
                    prompt = Prompt(embedding, box, points, self._checked(mask))
                    shapes.setdefault(prompt.shape, []).append((len(found) - 1, index, prompt))
        for placed in shapes.values():
            for start in range(0, len(placed), DECODER_BATCH):
                chunk = placed[start : start + DECODER_BATCH]
                self._fill(found, chunk, self.candidates([prompt for _, _, prompt in chunk]))
        return found

    def _empty(self, size: tuple[int, int], count: int, low_res: bool) -> Segmentation:
        width, height = size
        logits = np.full((count, self.low_res_side, self.low_res_side), -LOGIT_LIMIT, dtype=np.float32)
        return Segmentation(
            np.zeros((count, height, width), dtype=bool),
            np.zeros(count, dtype=np.float32),
            logits if low_res else None,
        )

    def _fill(
        self, found: Sequence[Segmentation], placed: Sequence[tuple[int, int, Prompt]], candidates: Candidates
    ) -> None:
        """Write the best candidate of each prompt to its place (image, object)."""
        scores = candidates.quality.cpu().numpy()
        for (image, index, prompt), logits, row in zip(placed, candidates.logits, scores, strict=True):
            best, result = int(row.argmax()), found[image]
            result.masks[index], result.scores[index] = self.full_mask(logits[best], prompt.embedding.size), row[best]
            if result.low_res is not None:
                result.low_res[index] = logits[best].clamp(-LOGIT_LIMIT, LOGIT_LIMIT).cpu().numpy()

    def candidates(self, prompts: Sequence[Prompt]) -> Candidates:
        """The decoder's three masks of each prompt; all prompts have one shape. At most DECODER_BATCH prompts."""
        coordinates, label = [], []
        for prompt in prompts:
            corners = [] if prompt.box is None else [prompt.box[:2], prompt.box[2:]]
            label = [*([UPPER_LEFT, LOWER_RIGHT] if corners else []), *[ON_OBJECT] * len(prompt.points)]
            # A mask alone goes with an empty point, as in sam2's video model.
            pixels = torch.tensor([*corners, *prompt.points] or [(0.0, 0.0)], dtype=torch.float32)
            coordinates.append(pixels / torch.tensor(prompt.embedding.size) * self.side)
        labels = torch.tensor([label or [NOT_A_POINT]] * len(prompts), dtype=torch.int32, device=self.device)
        masks = [prompt.mask for prompt in prompts if prompt.mask is not None]
        levels = zip(*([*prompt.embedding.fine, prompt.embedding.coarse] for prompt in prompts), strict=True)
        with inference(self.device):
            found = self._decode(
                [torch.cat(level) for level in levels],
                torch.stack(coordinates).to(self.device),
                labels,
                torch.from_numpy(np.stack(masks)[:, None]).to(self.device) if masks else None,
            )
            return Candidates(found.logits.float(), found.quality.float())

    def full_mask(self, logits: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
        """h x w logits as the bool H x W mask of an image of this (width, height)."""
        width, height = size
        whole = F.interpolate(logits[None, None], (height, width), mode="bilinear", align_corners=False)
        return (whole[0, 0] > 0).cpu().numpy()

    def _checked(self, mask: np.ndarray | None) -> np.ndarray | None:
        if mask is None:
            return None
        side = self.low_res_side
        if mask.shape != (side, side) or not np.issubdtype(mask.dtype, np.floating) or not np.isfinite(mask).all():
            raise InputError(
                f"the mask prompt is {mask.dtype} of shape {mask.shape} and must be finite logits of shape "
                f"{(side, side)}; take low_res of an earlier result, or mask_prompt(mask) of a bool mask"
            )
        return mask.astype(np.float32).clip(-LOGIT_LIMIT, LOGIT_LIMIT)

    def segment_embedded(
        self,
        embedding: Embedding,
        objects: Sequence[PromptObject],
        *,
        mask_prompts: MaskPrompts | None = None,
        low_res: bool = False,
    ) -> Segmentation:
        """:meth:`segment_all` of one embedded image."""
        earlier = None if mask_prompts is None else [mask_prompts]
        return self.segment_all([embedding], [objects], mask_prompts=earlier, low_res=low_res)[0]

    def segment(
        self,
        image: Image.Image,
        objects: Sequence[PromptObject],
        *,
        mask_prompts: MaskPrompts | None = None,
        low_res: bool = False,
    ) -> Segmentation:
        """:meth:`embed` and :meth:`segment_embedded` of one image."""
        return self.segment_embedded(self.embed([image])[0], objects, mask_prompts=mask_prompts, low_res=low_res)

    def mask_prompt(self, mask: np.ndarray) -> np.ndarray:
        """A bool H x W mask of any size as float32 h x w logits, -10 where there is nothing and 10 inside."""
        if mask.ndim != 2 or mask.dtype != bool or not mask.size:
            raise InputError(f"the mask is {mask.dtype} of shape {mask.shape}; give a bool array H x W")
        logits = torch.from_numpy(mask.astype(np.float32))[None, None] * MASK_SCALE + MASK_BIAS
        side = (self.low_res_side, self.low_res_side)
        return F.interpolate(logits, side, mode="bilinear", align_corners=False, antialias=True)[0, 0].numpy()

    def segment_everything(
        self,
        image: Image.Image,
        *,
        points_per_side: int = 32,
        min_score: float = 0.8,
        min_stability: float = 0.95,
        max_overlap: float = 0.7,
        max_masks: int = 256,
        order: str = "score",
    ) -> Segmentation:
        """Masks of whatever is in the image, without prompts: see :func:`seg_zero.segmenter.automatic.find_all`."""
        return find_all(
            self,
            image,
            points_per_side=points_per_side,
            min_score=min_score,
            min_stability=min_stability,
            max_overlap=max_overlap,
            max_masks=max_masks,
            order=order,
        )
