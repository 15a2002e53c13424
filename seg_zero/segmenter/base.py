"""What a segmenter is: an image and prompts go in, masks come out. Imports no torch and no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from seg_zero.objects import PromptObject

if TYPE_CHECKING:
    import torch

LOGIT_LIMIT = 32.0  # low-resolution logits are clamped to ± this, as sam2's predictor does


@dataclass(frozen=True)
class Segmentation:
    """Masks of one image.

    masks: bool N x H x W, one per object in the order given.
    scores: float32 N, the model's own estimate of each mask's IoU; 0 for an object without a usable prompt.
    low_res: float32 N x h x w, the logits before they are resized, if asked for; each can be the mask prompt of a
        later call. Without a usable prompt they are -LOGIT_LIMIT.
    """

    masks: np.ndarray
    scores: np.ndarray
    low_res: np.ndarray | None = None

    @property
    def union(self) -> np.ndarray:
        """All masks together, bool H x W; all False without objects."""
        return np.asarray(self.masks.any(axis=0))


@dataclass(frozen=True)
class Embedding:
    """An encoded image: ``size`` is its (width, height).

    coarse: 1 x C x h x w; fine: two maps of 4 and 2 times that height and width, high resolution first.
    """

    size: tuple[int, int]
    coarse: torch.Tensor
    fine: list[torch.Tensor]


MaskPrompts = Sequence[np.ndarray | None]


class Segmenter(Protocol):
    """A frozen segmentation model. Embed an image once, then segment as many lists of objects in it as needed.

    Boxes and points are in pixels of their image and may come from a policy's answer. Corners are put in order and
    boxes are clipped to the image; boxes without an area or with NaN are left out, and so are points outside. An
    object of which nothing is left gets an empty mask with score 0.
    """

    @property
    def device(self) -> torch.device: ...

    def embed(self, images: Sequence[Image.Image]) -> list[Embedding]:
        """Run the image encoder on RGB images, in one batch. Raises InputError for another mode."""
        ...

    def segment_all(
        self,
        embeddings: Sequence[Embedding],
        objects: Sequence[Sequence[PromptObject]],
        *,
        mask_prompts: Sequence[MaskPrompts] | None = None,
        low_res: bool = False,
    ) -> list[Segmentation]:
        """Masks of the objects in each embedded image; the decoder runs on objects of many images at once.

        mask_prompts: for each object an earlier mask of it, h x w logits (``Segmentation.low_res`` or
            :meth:`mask_prompt`), or None; such an object needs no box and no point.
        low_res: also return the logits.
        Raises InputError for a mask prompt of another shape or with NaN.
        """
        ...

    def segment_embedded(
        self,
        embedding: Embedding,
        objects: Sequence[PromptObject],
        *,
        mask_prompts: MaskPrompts | None = None,
        low_res: bool = False,
    ) -> Segmentation:
        """:meth:`segment_all` of one embedded image."""
        ...

    def segment(
        self,
        image: Image.Image,
        objects: Sequence[PromptObject],
        *,
        mask_prompts: MaskPrompts | None = None,
        low_res: bool = False,
    ) -> Segmentation:
        """:meth:`embed` and :meth:`segment_embedded` of one image."""
        ...

    def mask_prompt(self, mask: np.ndarray) -> np.ndarray:
        """A bool H x W mask of any size as the h x w logits of a mask prompt."""
        ...

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
        ...
