"""Text towers: SigLIP2 through transformers, CLIP through open_clip. Texts to vectors, nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from seg_zero.devices import choose_device
from seg_zero.encoders.templates import canonical
from seg_zero.errors import InputError, one_line
from seg_zero.hub import check_here, check_shapes, load_model

SIGLIP_LENGTH = 64  # tokens, always padded to it: the towers were trained so


class TextTower(Protocol):
    """A frozen text encoder. ``name`` stands for its weights: equal names give equal vectors."""

    name: str

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        """n texts to n x E float32 on the CPU, not normalised."""
        ...


class SiglipTower:
    """SigLIP's or SigLIP2's text tower: texts in canonical form, padded to 64 tokens, the pooled output."""

    def __init__(self, path_or_id: str | Path, device: str | None = None) -> None:
        from transformers import AutoConfig, AutoTokenizer, Siglip2TextModel, SiglipTextModel

        source = str(path_or_id)
        check_here("text tower", source)
        self.name = f"siglip:{_fingerprint(source)}"
        try:
            kind = AutoConfig.from_pretrained(source).model_type
            model_class = SiglipTextModel if kind in ("siglip", "siglip_text_model") else Siglip2TextModel
            model, loaded = load_model(model_class, source)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(
                f"text tower {source} cannot be loaded ({one_line(error)}); give SigLIP or SigLIP2"
            ) from error
        check_shapes(loaded, f"text tower {source}")
        if loaded["missing_keys"]:
            raise InputError(f"text tower {source} lacks weights ({sorted(loaded['missing_keys'])[0]}); give SigLIP2")
        self._device = choose_device(device)
        self._model: Any = model.eval().requires_grad_(False).to(self._device)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        tokens = self._tokenizer(
            [canonical(text) for text in texts],
            return_tensors="pt",
            padding="max_length",
            truncation=True,
            max_length=min(SIGLIP_LENGTH, self._model.config.max_position_embeddings),
        )
        return self._model(input_ids=tokens["input_ids"].to(self._device)).pooler_output.float().cpu()


class ClipTower:
    """The text tower of a CLIP of open_clip, by its name and pretrained tag or file, as open_clip takes them."""

    def __init__(self, model: str, pretrained: str, device: str | None = None) -> None:
        import open_clip

        self.name = f"clip:{model}:{_fingerprint(pretrained)}"
        try:
            clip: Any = open_clip.create_model(model, pretrained=pretrained or None)
            self._tokenizer: Any = open_clip.get_tokenizer(model)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                f"CLIP {model} ({pretrained or 'no weights'}) cannot be loaded ({one_line(error)})"
            ) from error
        self._device = choose_device(device)
        clip.visual = None  # the image tower is not needed
        self._model = clip.eval().requires_grad_(False).to(self._device)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        return self._model.encode_text(self._tokenizer(list(texts)).to(self._device)).float().cpu()


def _fingerprint(source: str) -> str:
    """What tells the weights of a file or folder from others; a name of the hub stands for itself."""
    path = Path(source)
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors")) if path.is_dir() else []
    if not files:
        return source
    return json.dumps([[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files])


def load_tower(kind: str, model: str, pretrained: str = "", device: str | None = None) -> TextTower:
    """The text tower of an adaptor. kind: "siglip2" or "open_clip", as in RADIO's checkpoints.

    Raises InputError for another kind, and for weights that cannot be loaded.
    """
    if kind.startswith("siglip"):
        return SiglipTower(model, device)
    if kind in ("open_clip", "clip"):
        return ClipTower(model, pretrained, device)
    raise InputError(f"an adaptor of type {kind!r} has no text tower; take one of type siglip2 or open_clip")
