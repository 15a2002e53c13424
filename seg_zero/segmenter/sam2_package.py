"""Image and objects to masks with SAM2: the only module that imports sam2.

Each object (a box and positive points in pixels of the original image) becomes one SAM2 prompt with
three candidate masks, of which the one with the best predicted quality counts. The objects come from
a policy and are not trusted: every number has a defined outcome.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import instantiate
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from PIL import Image
from yaml import YAMLError

from seg_zero.errors import InputError
from seg_zero.objects import Box, Point, PromptObject, usable_box, usable_points


@contextlib.contextmanager
def _hydra_as_found() -> Iterator[None]:
    """Importing sam2 claims Hydra's global state; a process that uses Hydra itself needs it back."""
    found, version = GlobalHydra.instance().hydra, VersionBase.instance().getbase()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = found
        VersionBase.instance().version_base = version


with _hydra_as_found():
    import sam2
    from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES
    from sam2.modeling.sam2_base import SAM2Base
    from sam2.sam2_image_predictor import SAM2ImagePredictor

DECODER_BATCH = 16  # an embedding is held for each prompt

TINY = "tiny"
TINY_FOLDER = Path(__file__).parents[1] / "models" / "tiny_sam2"


@dataclass(frozen=True)
class Segmentation:
    """Masks of one image.

    masks: bool N x H x W, one per object in the order given.
    scores: float32 N, SAM2's own estimate of each mask's IoU; 0 for an object without a usable prompt.
    """

    masks: np.ndarray
    scores: np.ndarray

    @property
    def union(self) -> np.ndarray:
        """All masks together, bool H x W; all False without objects."""
        return np.asarray(self.masks.any(axis=0))


@dataclass(frozen=True)
class Embedding:
    """An encoded image: ``size`` is its (width, height); the tensors are SAM2's features, 1 x C x h x w each."""

    size: tuple[int, int]
    coarse: torch.Tensor
    fine: list[torch.Tensor]


@dataclass(frozen=True)
class _Prompt:
    """One object of one image: their numbers, and what of the object can be used."""

    image: int
    index: int
    embedding: Embedding
    box: Box | None
    points: list[Point]


class Segmenter:
    """A frozen SAM2. Embed an image once, then segment as many lists of objects in it as needed."""

    def __init__(self, model: SAM2Base) -> None:
        self.model = model.eval()
        self.predictor = SAM2ImagePredictor(model)
        # sam2 1.1.0 writes down the feature sizes of 1024-pixel inputs (256, 128, 64); they are the
        # strides 4, 8 and 16 of whatever size the model takes.
        side = model.image_size
        self.predictor._bb_feat_sizes = [(side // stride, side // stride) for stride in (4, 8, 16)]

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path | None = None, device: str | None = None) -> Segmenter:
        """Load a SAM2.

        path_or_id: None or "tiny" for the embedded model; a folder with one ``*.yaml`` and one ``*.pt``;
            a published checkpoint file such as ``sam2.1_hiera_large.pt``; or a published Hugging Face
            id such as ``facebook/sam2-hiera-large``.
        device: a torch device; CUDA if there is one, otherwise the CPU.

        Raises InputError if the files are missing or do not hold a SAM2.
        """
        config, checkpoint = find_files(path_or_id)
        model = build_model(config)
        _load_weights(model, checkpoint, config)
        return cls(model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")))

    @property
    def device(self) -> torch.device:
        return self.model.device

    def prepare_images(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """uint8 H x W x 3 RGB arrays as the model's input: normalised float B x 3 x S x S on its device."""
        return self.predictor._transforms.forward_batch(list(images)).to(self.device)

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        """bfloat16 on CUDA, as in sam2's examples; float32 elsewhere."""
        if self.device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def embed(self, images: Sequence[Image.Image]) -> list[Embedding]:
        """Run the image encoder on RGB images, in one batch; each embedding serves any number of prompts."""
        for image in images:
            if image.mode != "RGB":
                raise InputError(f"the image has mode {image.mode}; read it with seg_zero.images.load_image")
        if not images:
            return []
        with torch.inference_mode(), self._precision():
            self.predictor.set_image_batch([np.array(image) for image in images])  # copies: torch warns of views
        features = self.predictor._features
        fine = features["high_res_feats"]
        return [
            Embedding(image.size, features["image_embed"][i : i + 1].clone(), [f[i : i + 1].clone() for f in fine])
            for i, image in enumerate(images)
        ]

    def segment_embedded(self, embedding: Embedding, objects: Sequence[PromptObject]) -> Segmentation:
        """:meth:`segment_all` of one embedded image."""
        return self.segment_all([embedding], [objects])[0]

    def segment_all(
        self, embeddings: Sequence[Embedding], objects: Sequence[Sequence[PromptObject]]
    ) -> list[Segmentation]:
        """Masks of the objects in each embedded image, H x W of that image; the decoder runs on many images at once.

        Boxes and points are in pixels of their image. Corners are put in order and boxes are clipped to the image;
        boxes without an area or with NaN are left out, and so are points outside. An object of which nothing is
        left gets an empty mask with score 0.
        """
        found: list[Segmentation] = []
        # Prompts of one shape go through the decoder together, a bounded number at a time.
        shapes: dict[tuple[bool, int], list[_Prompt]] = {}
        for embedding, some in zip(embeddings, objects, strict=True):
            width, height = embedding.size
            masks = np.zeros((len(some), height, width), dtype=bool)
            found.append(Segmentation(masks, np.zeros(len(some), dtype=np.float32)))
            for index, item in enumerate(some):
                box, points = usable_box(item.box, width, height), usable_points(item.points, width, height)
                if box is not None or points:
                    prompt = _Prompt(len(found) - 1, index, embedding, box, points)
                    shapes.setdefault((box is not None, len(points)), []).append(prompt)
        for prompts in shapes.values():
            for start in range(0, len(prompts), DECODER_BATCH):
                chunk = prompts[start : start + DECODER_BATCH]
                for prompt, mask, score in zip(chunk, *self._decode(chunk), strict=True):
                    result = found[prompt.image]
                    result.masks[prompt.index], result.scores[prompt.index] = mask, score
        return found

    def _decode(self, prompts: Sequence[_Prompt]) -> tuple[list[np.ndarray], np.ndarray]:
        """The best of three candidate masks of each prompt and its score; all prompts have one shape.

        sam2's predictor decodes one image at a time; this is its way with an embedding for each prompt.
        """
        model, transforms = self.model, self.predictor._transforms
        coordinates = []
        for prompt in prompts:
            corners = [] if prompt.box is None else [prompt.box[:2], prompt.box[2:]]
            pixels = torch.tensor([*corners, *prompt.points], dtype=torch.float32)
            width, height = prompt.embedding.size
            coordinates.append(transforms.transform_coords(pixels, normalize=True, orig_hw=(height, width)))
        # sam2's labels: 2 and 3 are the corners of a box, 1 a point on the object.
        label = [*([2, 3] if prompts[0].box is not None else []), *[1] * len(prompts[0].points)]
        labels = torch.tensor([label] * len(prompts), dtype=torch.int32, device=self.device)
        with torch.inference_mode(), self._precision():
            sparse, dense = model.sam_prompt_encoder(
                points=(torch.stack(coordinates).to(self.device), labels), boxes=None, masks=None
            )
            fine = zip(*(prompt.embedding.fine for prompt in prompts), strict=True)
            candidates, quality, _, _ = model.sam_mask_decoder(
                image_embeddings=torch.cat([prompt.embedding.coarse for prompt in prompts]),
                image_pe=model.sam_prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
                repeat_image=False,
                high_res_features=[torch.cat(level) for level in fine],
            )
            scores = quality.float().cpu().numpy()
            best = scores.argmax(axis=1)
            masks = []
            for prompt, logits, choice in zip(prompts, candidates, best, strict=True):
                width, height = prompt.embedding.size
                whole = transforms.postprocess_masks(logits[None, choice : choice + 1], (height, width))
                masks.append((whole[0, 0] > self.predictor.mask_threshold).cpu().numpy())
        return masks, scores[np.arange(len(prompts)), best]

    def segment(self, image: Image.Image, objects: Sequence[PromptObject]) -> Segmentation:
        """:meth:`embed` and :meth:`segment_embedded` of one image."""
        return self.segment_embedded(self.embed([image])[0], objects)


def build_model(config: Path) -> SAM2Base:
    """An untrained SAM2 on the CPU from a yaml whose ``model`` names sam2's modules."""
    try:
        tree = OmegaConf.load(config)
        if not isinstance(tree, DictConfig) or "model" not in tree:
            raise ValueError("it has no key 'model'")
        _check_targets(OmegaConf.to_container(tree.model, resolve=True))
        # Loaded and built by hand: sam2's own build function needs Hydra's global state.
        return instantiate(tree.model, _recursive_=True)
    except (OSError, ValueError, TypeError, OmegaConfBaseException, HydraException, YAMLError) as error:
        raise InputError(
            f"{config} is no SAM2 configuration ({_one_line(error)}); use one from sam2/configs"
        ) from error


def _check_targets(node: object) -> None:
    """A configuration names the callables it is built with; one that came with weights may name only sam2's."""
    if isinstance(node, dict):
        target = node.get("_target_", "sam2.")
        if not str(target).startswith("sam2."):
            raise ValueError(f"_target_ {target!r} is outside sam2")
        for value in node.values():
            _check_targets(value)
    elif isinstance(node, list):
        for value in node:
            _check_targets(value)


def _load_weights(model: SAM2Base, checkpoint: Path, config: Path) -> None:
    """Fill the model from ``{"model": state_dict}``; half-precision weights are cast to the model's."""
    try:
        model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["model"])
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{checkpoint} does not hold the SAM2 weights of {config.name} ({_one_line(error)}); "
            "download the checkpoint again or give the configuration that belongs to it"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def find_files(path_or_id: str | Path | None) -> tuple[Path, Path]:
    """Configuration and checkpoint of what the user named."""
    if path_or_id is None or path_or_id == TINY:
        return _files_of_folder(TINY_FOLDER)
    published = {Path(checkpoint).name: config for config, checkpoint in HF_MODEL_ID_TO_FILENAMES.values()}
    configs = Path(next(iter(sam2.__path__)))
    path = Path(path_or_id).expanduser()
    if path.is_dir():
        return _files_of_folder(path)
    if path.is_file():
        if path.name not in published:
            raise InputError(
                f"SAM2 checkpoint {path} has none of the published names {', '.join(sorted(published))}; "
                "rename it, or give a folder with the checkpoint and its yaml"
            )
        return configs / published[path.name], path
    if str(path_or_id) in HF_MODEL_ID_TO_FILENAMES:
        config, checkpoint = HF_MODEL_ID_TO_FILENAMES[str(path_or_id)]
        return configs / config, _download(str(path_or_id), checkpoint)
    raise InputError(
        f"SAM2 model {str(path_or_id)!r} is neither a file, a folder nor a published id; "
        f'give "tiny", an existing path, or one of {", ".join(HF_MODEL_ID_TO_FILENAMES)}'
    )


def _files_of_folder(folder: Path) -> tuple[Path, Path]:
    found = []
    for pattern in ("*.yaml", "*.pt"):
        matches = sorted(folder.glob(pattern))
        if len(matches) != 1:
            raise InputError(f"SAM2 folder {folder} holds {len(matches)} files {pattern}; it needs exactly one")
        found.append(matches[0])
    return found[0], found[1]


def _download(repository: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo_id=repository, filename=file))
    except (OSError, ValueError) as error:  # network and hub errors derive from OSError
        raise InputError(
            f"cannot get {file} of {repository} ({_one_line(error)}); "
            "check the network, or download the file and give its path"
        ) from error
