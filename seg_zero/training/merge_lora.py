"""The LoRA half of :mod:`seg_zero.training.merge`: adapters into the base weights, and into a folder of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from seg_zero.errors import InputError

if TYPE_CHECKING:
    import torch

ADAPTER_FOLDER = "lora_adapter"
_PREFIX = "base_model.model."
_A, _B = ".lora_A.default.weight", ".lora_B.default.weight"


def base_name(name: str) -> str:
    """What the base model calls a weight of the model with adapters."""
    return name.removeprefix(_PREFIX).replace(".base_layer.", ".")


def is_lora(weights: Mapping[str, object]) -> bool:
    return any(name.endswith(_A) for name in weights)


def read_alpha(actor: Path) -> int:
    """The scale of a checkpoint's adapters. Raises InputError if verl's ``lora_train_meta.json`` lacks it."""
    path = actor / "lora_train_meta.json"
    try:
        return int(json.loads(path.read_text())["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} has no lora_alpha ({error!r}), which LoRA shards need; copy it there") from error


def merge_adapters(weights: Mapping[str, torch.Tensor], alpha: int) -> dict[str, torch.Tensor]:
    """The weights of the base model under its own names, ``B @ A * alpha / rank`` added where there is an adapter."""
    merged: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if ".lora_" in name:
            continue
        module = name.removesuffix(".base_layer.weight")
        if module + _A in weights:
            a, b = weights[module + _A].float(), weights[module + _B].float()
            tensor = tensor + (b @ a * (alpha / len(a))).to(tensor.dtype)
        merged[base_name(name)] = tensor
    return merged


def save_adapter(weights: Mapping[str, torch.Tensor], alpha: int, folder: Path) -> None:
    """Write the adapters as PEFT does, to be loaded onto the base model with ``PeftModel.from_pretrained``."""
    from peft import LoraConfig
    from safetensors.torch import save_file

    adapters = {name: tensor for name, tensor in weights.items() if ".lora_" in name}
    modules = sorted(name.removeprefix(_PREFIX).removesuffix(_A) for name in adapters if name.endswith(_A))
    rank = len(next(tensor for name, tensor in adapters.items() if name.endswith(_A)))
    folder.mkdir()
    # Whole names: the same layer of the vision tower may have no adapter.
    LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=modules, task_type="CAUSAL_LM", inference_mode=True
    ).save_pretrained(str(folder))
    named = {name.replace(".default.weight", ".weight"): tensor.contiguous() for name, tensor in adapters.items()}
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
