"""Compares a merged folder with the shards it was made from, by what the two models compute.

The reference is assembled independently: every worker's piece goes where its mesh coordinate or offset says, and LoRA
adapters stay adapters or are added by PEFT. It is rounded to the dtype that was written, so that rounding, which was
requested, does not hide mistakes. Both models compute in float32, one after the other, so that memory holds only one.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from seg_zero.assets import EXAMPLE_IMAGE
from seg_zero.errors import InputError
from seg_zero.export.lora import lora_config, read_alpha
from seg_zero.export.shards import Checkpoint, ShardedParts, open_shards
from seg_zero.policy.lora import base_name, is_adapter, is_lora

# Largest allowed difference of a logit, in parts of the largest logit, for weights written in this dtype. It is 0
# without adapters; adding those in another order may round single weights the other way.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-3, torch.bfloat16: 1e-2}
QUESTION = "the green circle"
TOKENS_PER_SIDE = 4  # of the probe's image


@dataclass(frozen=True)
class Comparison:
    """difference: largest of any logit. scale: largest logit. tolerance: largest allowed difference / scale.

    rounding: largest change of a logit by rounding the checkpoint's weights to the dtype written.
    """

    difference: float
    scale: float
    tolerance: float
    rounding: float

    @property
    def ok(self) -> bool:
        return self.difference <= self.tolerance * self.scale  # also false for NaN

    def __str__(self) -> str:
        return (
            f"largest difference of logits {self.difference:.3g}, allowed {self.tolerance * self.scale:.3g} "
            f"({self.tolerance:g} of the largest logit {self.scale:.3g}); "
            f"rounding of weights changed {self.rounding:.3g}"
        )


def make_probe(files: Path) -> dict[str, torch.Tensor]:
    """Inputs of the model in ``files``: a question and a small image. Raises InputError if its processor is broken."""
    from seg_zero.images import load_image
    from seg_zero.policy.model_files import default_spec
    from seg_zero.policy.processors import load_processor
    from seg_zero.prompting import build_messages, resize_for_policy

    processor = load_processor(files)
    spec = default_spec(str(files))
    small = replace(spec, image_size=min(spec.image_size, TOKENS_PER_SIDE * spec.token_pixels))
    text = processor.apply_chat_template(build_messages(QUESTION, small), tokenize=False, add_generation_prompt=True)
    image = resize_for_policy(load_image(EXAMPLE_IMAGE), small)
    return dict(processor(text=[text], images=[image], return_tensors="pt"))


def place(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """A whole float32 tensor of its workers' pieces, each put where it says it belongs; NaN where none does."""
    whole = torch.full(parts[0].shape, torch.nan)
    for rank, part in enumerate(parts):
        if isinstance(part, ShardedParts):
            for piece in part.parts:
                area = zip(piece.metadata.shard_offsets, piece.tensor.shape, strict=True)
                whole[tuple(slice(at, at + size) for at, size in area)] = piece.tensor.float()
        elif isinstance(part, DTensor):
            _place_chunk(whole, part, rank)
        else:
            whole.copy_(part)
    return whole


def _place_chunk(whole: torch.Tensor, part: DTensor, rank: int) -> None:
    placement: Any = part.placements[-1]
    mesh, piece = part.device_mesh.mesh, part.to_local()  # type: ignore[attr-defined]
    if placement.is_replicate():
        whole.copy_(piece)
    elif piece.numel():
        coordinate = int((mesh == rank).nonzero()[0, -1])
        length = -(-whole.shape[placement.dim] // mesh.shape[-1])
        whole.narrow(placement.dim, coordinate * length, piece.shape[placement.dim]).copy_(piece)


def _build(files: Path, state: dict[str, torch.Tensor]) -> Any:
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(files)
    with torch.device("meta"):
        kind: Any = type(AutoModelForImageTextToText.from_config(config))
    return kind.from_pretrained(None, config=config, state_dict=state, dtype=torch.float32)


def _base(checkpoint: Checkpoint, shards: list[dict[str, torch.Tensor]]) -> Any:
    names = [name for name in shards[0] if not is_adapter(name)]
    return _build(checkpoint.files, {base_name(name): place([shard[name] for shard in shards]) for name in names})


def _reference(checkpoint: Checkpoint) -> Any:
    """The checkpoint's model, with adapters beside its weights if it has any."""
    shards = open_shards(checkpoint)
    model = _base(checkpoint, shards)
    if is_lora(shards[0]):
        from peft import get_peft_model

        adapters = {name: place([shard[name] for shard in shards]) for name in shards[0] if is_adapter(name)}
        model = get_peft_model(model, lora_config(adapters, read_alpha(checkpoint.actor), None))
        unknown = model.load_state_dict(adapters, strict=False).unexpected_keys
        if unknown:
            raise InputError(f"adapter {unknown[0]} belongs to no layer of the model; the checkpoint is damaged")
    return model


def _written(checkpoint: Checkpoint, folder: Path, adapter: bool) -> Any:
    if not adapter:
        from transformers import AutoModelForImageTextToText

        return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    from peft import PeftModel

    return PeftModel.from_pretrained(_base(checkpoint, open_shards(checkpoint)), str(folder))


def _logits(model: Any, probe: Mapping[str, torch.Tensor]) -> torch.Tensor:
    model.eval()
    with torch.inference_mode():
        logits: torch.Tensor = model(**probe).logits.float()
    return logits


def _round(model: Any, dtype: torch.dtype, adapter: bool) -> Any:
    """The model with what was written in ``dtype`` rounded to it: its adapters, or all weights with adapters added."""
    if not adapter and hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    for name, weight in model.named_parameters():
        if not adapter or is_adapter(name):
            weight.data = weight.data.to(dtype).float()
    return model


def compare(
    checkpoint: Checkpoint, folder: Path, probe: Mapping[str, torch.Tensor], dtype: torch.dtype, adapter: bool
) -> Comparison:
    """Logits of the model written to ``folder`` in ``dtype`` against those of the checkpoint's shards.

    adapter: ``folder`` holds adapters alone; they are loaded onto the base weights of the shards.
    """
    model = _reference(checkpoint)
    exact = expected = _logits(model, probe)
    if dtype != torch.float32:
        model = _round(model, dtype, adapter)
        expected = _logits(model, probe)
    del model
    gc.collect()  # models hold reference cycles, and the next one needs the memory
    difference = (expected - _logits(_written(checkpoint, folder, adapter), probe)).abs().max()
    rounding = (expected - exact).abs().max()
    return Comparison(float(difference), float(expected.abs().max()), TOLERANCE[dtype], float(rounding))
