"""The LoRA half of :mod:`seg_zero.export.merge`: adapters into the base weights, and into a separate folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_zero.errors import InputError
from seg_zero.files import read_json
from seg_zero.policy.lora import LORA_A, LORA_B, PREFIX, base_name, is_adapter

if TYPE_CHECKING:
    import torch

    from seg_zero.export.shards import LazyTensor

ADAPTER_FOLDER = "lora_adapter"


def read_alpha(actor: Path) -> int:
    """The scale of a checkpoint's adapters. Raises InputError if verl's ``lora_train_meta.json`` lacks it."""
    path = actor / "lora_train_meta.json"
    try:
        return int(read_json(path)["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} has no lora_alpha ({error!r}), which LoRA shards need; copy it there") from error


def merge_adapters(weights: Mapping[str, LazyTensor], alpha: int) -> dict[str, LazyTensor]:
    """The weights of the base model under its own names, ``B @ A * alpha / rank`` added where there is an adapter."""
    unknown = [name for name in weights if is_adapter(name) and not name.endswith((LORA_A, LORA_B))]
    if unknown:
        raise InputError(f"adapter {unknown[0]} is not of a linear layer; only those can be merged")
    merged: dict[str, LazyTensor] = {}
    for name, tensor in weights.items():
        if is_adapter(name):
            continue
        module = name.removesuffix(".base_layer.weight")
        if module != name and module + LORA_A in weights:
            tensor = _with_adapter(tensor, weights[module + LORA_A], weights[module + LORA_B], alpha)
        merged[base_name(name)] = tensor
    if not merged:
        raise InputError(
            "the shards hold adapters alone (save_lora_only), so there is nothing to merge them into; "
            "take --lora adapter"
        )
    return merged


def _with_adapter(tensor: LazyTensor, a: LazyTensor, b: LazyTensor, alpha: int) -> LazyTensor:
    import torch

    from seg_zero.export.shards import LazyTensor

    def read(dtype: torch.dtype) -> torch.Tensor:
        down, up = a.load().float(), b.load().float()
        return (tensor.read(torch.float32) + up @ down * (alpha / len(down))).to(dtype)

    return LazyTensor(tensor.shape, tensor.dtype, read)


def lora_config(weights: Mapping[str, LazyTensor | torch.Tensor], alpha: int, base_model: str | None) -> Any:
    """PEFT's description of the adapters in ``weights``."""
    from peft import LoraConfig

    # Whole names: the same layer of the vision tower may have no adapter.
    modules = sorted(name.removeprefix(PREFIX).removesuffix(LORA_A) for name in weights if name.endswith(LORA_A))
    rank = next(tensor.shape[0] for name, tensor in weights.items() if name.endswith(LORA_A))
    return LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=modules, task_type="CAUSAL_LM", inference_mode=True,
        base_model_name_or_path=base_model,
    )  # fmt: skip


def save_adapter(weights: Mapping[str, LazyTensor], alpha: int, folder: Path, base_model: str | None) -> None:
    """Write the adapters as PEFT does, to be loaded onto the base model with ``PeftModel.from_pretrained``."""
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    lora_config(weights, alpha, base_model).save_pretrained(str(folder))
    named = {name.replace(".default.weight", ".weight"): t.load() for name, t in weights.items() if is_adapter(name)}
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
