"""Image towers beside the text towers: whole pictures to vectors in the space of the texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from seg_zero.devices import choose_device
from seg_zero.errors import InputError, one_line
from seg_zero.hub import check_here, check_shapes, load_model


class ImageTower(Protocol):
    """A frozen image encoder."""

    def encode(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """n RGB pictures of any size to n x E float32 on the CPU, not normalised."""
        ...


class SiglipImages:
    """SigLIP's or SigLIP2's image tower: the pooled output. Pictures are resized as its preprocessor says."""

    def __init__(self, path_or_id: str | Path, device: str | None = None) -> None:
        from transformers import AutoConfig, AutoImageProcessor, Siglip2VisionModel, SiglipVisionModel

        source = str(path_or_id)
        check_here("image tower", source)
        try:
            kind = AutoConfig.from_pretrained(source).model_type
            model_class: Any = SiglipVisionModel if kind in ("siglip", "siglip_vision_model") else Siglip2VisionModel
            model, loaded = load_model(model_class, source)
            self._processor: Any = AutoImageProcessor.from_pretrained(source)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(
                f"image tower {source} cannot be loaded ({one_line(error)}); give SigLIP or SigLIP2"
            ) from error
        check_shapes(loaded, f"image tower {source}")
        if loaded["missing_keys"]:
            raise InputError(f"image tower {source} lacks weights ({sorted(loaded['missing_keys'])[0]}); give SigLIP2")
        self._device = choose_device(device)
        self._model: Any = model.eval().requires_grad_(False).to(self._device)

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image]) -> torch.Tensor:
        inputs = self._processor(images=list(images), return_tensors="pt").to(self._device)
        return self._model(**inputs).pooler_output.float().cpu()


class ClipImages:
    """The image tower of a CLIP of open_clip, by its name and pretrained tag or file, as open_clip takes them."""

    def __init__(self, model: str, pretrained: str, device: str | None = None) -> None:
        import open_clip

        try:
            clip, _, self._preprocess = open_clip.create_model_and_transforms(model, pretrained=pretrained or None)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                f"CLIP {model} ({pretrained or 'no weights'}) cannot be loaded ({one_line(error)})"
            ) from error
        self._device = choose_device(device)
        self._visual: Any = clip.visual.eval().requires_grad_(False).to(self._device)

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image]) -> torch.Tensor:
        batch = torch.stack([self._preprocess(image) for image in images])  # type: ignore[operator]
        return self._visual(batch.to(self._device)).float().cpu()
