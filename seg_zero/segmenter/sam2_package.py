"""SAM 2 and SAM 2.1 by Meta's sam2 package. Only this module imports sam2 and touches its private attributes."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import instantiate
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from seg_zero.errors import InputError, one_line
from seg_zero.segmenter.prompted import PromptedSegmenter
from seg_zero.segmenter.prompts import Candidates


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
    from sam2 import sam2_video_predictor
    from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES
    from sam2.modeling.sam2_base import SAM2Base
    from sam2.sam2_image_predictor import SAM2ImagePredictor
    from sam2.sam2_video_predictor import SAM2VideoPredictor as VideoPredictor  # noqa: F401 (of this module alone)
    from sam2.utils import misc

IMAGE_MODEL, VIDEO_MODEL = "sam2.modeling.sam2_base.SAM2Base", "sam2.sam2_video_predictor.SAM2VideoPredictor"
# What sam2's own build function sets for video unless the yaml says otherwise; no effect on images. Not its filling of
# holes, which needs a CUDA extension.
VIDEO_SETTINGS = {
    "binarize_mask_from_pts_for_mem_enc": True,
    "sam_mask_decoder_extra_args": {
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    },
}


def _no_bar(steps: Iterable[int], **_: object) -> Iterable[int]:
    return steps


# sam2's progress bars are for whole clips; it is given one frame at a time (seg_zero.segmenter.video).
sam2_video_predictor.tqdm = misc.tqdm = _no_bar


def published_ids() -> dict[str, tuple[Path, str]]:
    """Configuration and name of the checkpoint of each Hugging Face id that sam2 knows."""
    configs = Path(next(iter(sam2.__path__)))
    return {name: (configs / config, file) for name, (config, file) in HF_MODEL_ID_TO_FILENAMES.items()}


class Sam2PackageSegmenter(PromptedSegmenter):
    """A frozen SAM 2 or SAM 2.1 of the sam2 package."""

    def __init__(self, model: SAM2Base) -> None:
        self.model = model.eval()
        self.side = model.image_size
        self.low_res_side = model.image_size // 4
        self.predictor = SAM2ImagePredictor(model)
        # sam2 1.1.0 writes down the feature sizes of 1024-pixel inputs (256, 128, 64); they are the
        # strides 4, 8 and 16 of whatever size the model takes.
        self.predictor._bb_feat_sizes = [(self.side // stride, self.side // stride) for stride in (4, 8, 16)]

    @classmethod
    def from_files(cls, config: Path, checkpoint: Path, device: str) -> Sam2PackageSegmenter:
        """Build the model of a yaml and load its weights. Raises InputError if they do not hold a SAM2."""
        model = build_model(config)
        _load_weights(model, checkpoint, config)
        return cls(model.to(device))

    @property
    def device(self) -> torch.device:
        return self.model.device

    def prepare_images(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """uint8 H x W x 3 RGB arrays as the model's input: normalised float B x 3 x S x S on its device."""
        return self.predictor._transforms.forward_batch(list(images)).to(self.device)

    def _encode(self, images: Sequence[np.ndarray]) -> list[torch.Tensor]:
        self.predictor.set_image_batch(list(images))
        features = self.predictor._features
        self.predictor.reset_predictor()
        return [*features["high_res_feats"], features["image_embed"]]

    def _decode(
        self,
        features: list[torch.Tensor],
        coordinates: torch.Tensor,
        labels: torch.Tensor,
        masks: torch.Tensor | None,
    ) -> Candidates:
        """sam2's predictor decodes one image at a time; this is its way with an embedding for each prompt."""
        encoder, (*fine, coarse) = self.model.sam_prompt_encoder, features
        sparse, dense = encoder(points=(coordinates, labels), boxes=None, masks=masks)
        logits, quality, _, _ = self.model.sam_mask_decoder(
            image_embeddings=coarse,
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            repeat_image=False,
            high_res_features=fine,
        )
        return Candidates(logits, quality)


def build_model(config: Path) -> SAM2Base:
    """An untrained SAM2 on the CPU from a yaml whose ``model`` names sam2's modules."""
    try:
        tree = OmegaConf.load(config)
        if not isinstance(tree, DictConfig) or "model" not in tree:
            raise ValueError("it has no key 'model'")
        _check_targets(OmegaConf.to_container(tree.model, resolve=True))
        if tree.model.get("_target_") == IMAGE_MODEL:
            # sam2's video predictor is the image model with methods for clips: one copy of the weights serves both.
            tree = OmegaConf.merge({"model": VIDEO_SETTINGS}, tree, {"model": {"_target_": VIDEO_MODEL}})
        # Loaded and built by hand: sam2's own build function needs Hydra's global state.
        return instantiate(tree.model, _recursive_=True)
    except (OSError, ValueError, TypeError, OmegaConfBaseException, HydraException, YAMLError) as error:
        raise InputError(f"{config} is no SAM2 configuration ({one_line(error)}); use one from sam2/configs") from error


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


def load_state(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint ``{"model": state_dict}``."""
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]


def _load_weights(model: SAM2Base, checkpoint: Path, config: Path) -> None:
    """Fill the model from a checkpoint; half-precision weights are cast to the model's."""
    try:
        model.load_state_dict(load_state(checkpoint))
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{checkpoint} does not hold the SAM2 weights of {config.name} ({one_line(error)}); "
            "download the checkpoint again or give the configuration that belongs to it"
        ) from error
