"""What the engine does with verl's batches when prompts are shared: cut them, and translate inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu

from seg_zero.training.engine.shared_prefix.batch import (
    FlatRow,
    Images,
    ImageTokens,
    common,
    flat_row,
    opening,
    prompt_keys,
    shown_images,
)
from seg_zero.training.engine.shared_prefix.groups import Lengths, Part, equal_rows, micro_batches

ROW = "shared_prefix_row"  # of a micro-batch: its FlatRow
LEAST = 16  # tokens that are worth a level of the tree, which is a call of the attention kernel
_IMAGES = ("pixel_values", "image_grid_thw")


def images_of(data: TensorDict) -> list[Images]:
    """The images of each row; none for verl's padding rows. Raises ValueError for videos, which are not supported."""
    found: list[Images] = []
    for inputs in data.get("multi_modal_inputs", [{}] * len(data)):
        shown: Mapping[str, Any] = tu.unwrap_non_tensor_data(inputs) or {}
        if "pixel_values_videos" in shown:
            raise ValueError("prompts with videos cannot be shared; set engine.shared_prefix=false")
        found.append({key: shown[key] for key in _IMAGES if shown.get(key) is not None})
    return found


@dataclass(frozen=True)
class Groups:
    """The rows of a mini-batch by what their prompts begin with: those about one picture, and equal ones without any.

    sequences: (tokens,) ids of each row.
    """

    groups: list[Part]
    sequences: Sequence[torch.Tensor]
    lengths: Lengths
    images: list[Images]
    tokens: ImageTokens

    @classmethod
    def of(cls, data: TensorDict, config: Any) -> Groups:
        """data: verl's mini-batch, with nested tensors. config: of the model."""
        tokens = ImageTokens(config.image_token_id, config.vision_config.spatial_merge_size)
        images = images_of(data)
        keys = prompt_keys(data["prompts"].unbind(), images, tokens)
        lengths = Lengths(
            prompts=data["prompts"].offsets().diff().tolist(),
            answers=data["responses"].offsets().diff().tolist(),
            shared=lambda row, other: common(keys[row], keys[other]),
            order=lambda row: keys[row].tobytes(),
        )
        groups = equal_rows([opening(one).tobytes() for one in keys])
        return cls(groups, data["input_ids"].unbind(), lengths, images, tokens)

    def cut(self, limit: int, count: int = 0) -> list[list[Part]]:
        """Micro-batches of at most ``limit`` tokens and at least ``count`` in number; see :func:`micro_batches`."""
        return micro_batches(self.groups, self.lengths, limit, count)

    def row(self, batch: Sequence[Part]) -> FlatRow:
        """A micro-batch as one row; its sequences are the batch's rows in order."""
        rows = [row for part in batch for row in part]
        return flat_row(
            [self.sequences[row] for row in rows],
            [self.lengths.prompts[row] for row in rows],
            [len(part) for part in batch],
            [self.images[row] for row in rows],
            self.tokens,
            LEAST,
        )


def usual_limit(data: TensorDict, lengths: Sequence[int]) -> int:
    """Tokens that a micro-batch of separate sequences may have by verl's settings. lengths: tokens of each."""
    if tu.get_non_tensor_data(data, "use_dynamic_bsz", default=True):
        return int(data["max_token_len_per_gpu"])
    return int(data["micro_batch_size_per_gpu"]) * max(lengths)


def model_inputs(micro_batch: TensorDict, row: FlatRow) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the model takes, and what verl makes outputs of, in the form of its packed sequences."""
    ids, positions = micro_batch["input_ids"].values(), micro_batch["position_ids"].values()
    device = ids.device
    temperature = micro_batch["temperature"]
    tensor = isinstance(temperature, torch.Tensor)
    each = temperature if tensor else torch.full((len(micro_batch),), float(temperature), device=device)
    tokens = row.tokens.to(device)
    inputs = {
        "input_ids": ids[tokens][None],
        "position_ids": positions[:, None, tokens],  # (4, 1, tokens)
        "layout": row.layout.moved(device),
        "logits_at": row.logits_at.to(device),
        **{name: value.to(device) for name, value in shown_images(row, images_of(micro_batch)).items()},
    }
    outputs = {
        "input_ids_rmpad_rolled": ids[row.predicted.to(device) + 1],
        "temperature_rmpad": each.float().repeat_interleave(micro_batch["responses"].offsets().diff()),
        "temperature_is_one": not tensor and float(temperature) == 1.0,
        "pad_size": 0,
    }
    return inputs, outputs


def answers_alone(micro_batch: TensorDict) -> TensorDict:
    """A micro-batch whose sequences are its answers, with the settings by which verl makes outputs of logits."""
    tensors = [key for key, value in micro_batch.items() if isinstance(value, torch.Tensor)]
    alone = micro_batch.exclude(*tensors)
    alone["input_ids"] = micro_batch["responses"]
    tu.assign_non_tensor(alone, use_remove_padding=True)
    return alone


def among_all_tokens(outputs: dict[str, Any], micro_batch: TensorDict, row: FlatRow) -> dict[str, Any]:
    """Outputs of answers where verl expects them: nested like the whole sequences, with zeros in the prompts."""
    offsets, places = micro_batch["input_ids"].offsets(), row.predicted.to(micro_batch["input_ids"].device)
    total = len(micro_batch["input_ids"].values())
    return {
        name: torch.nested.nested_tensor_from_jagged(
            value.values().new_zeros(total).index_put((places,), value.values()), offsets
        )
        for name, value in outputs.items()
    }
