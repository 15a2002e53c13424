"""Names of weights in a model with LoRA adapters, as PEFT gives them."""

from __future__ import annotations

from collections.abc import Iterable

PREFIX = "base_model.model."
LORA_A, LORA_B = ".lora_A.default.weight", ".lora_B.default.weight"


def base_name(name: str) -> str:
    """What the base model calls a weight of the model with adapters."""
    return name.removeprefix(PREFIX).replace(".base_layer.", ".")


def is_adapter(name: str) -> bool:
    return ".lora_" in name


def is_lora(weights: Iterable[str]) -> bool:
    return any(name.endswith(LORA_A) for name in weights)
