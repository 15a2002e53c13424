"""The vision tower computes each image once, however many samples of a batch show it.

GRPO samples many answers to one image, and verl hands the image to the model with each of them. The tower takes a
fifth of a forward pass over the embedded policy and, by its operations, two fifths of one over a 3B model at 840 x 840.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from cachetools import LRUCache

KEEP_BYTES = 128 << 20  # features of 35 images of 840 x 840 pixels for a 3B model
Key = tuple[int, ...]
# What the language models take of a tower: one row per image token; Qwen3-VL's is a list of such tensors.
_FIELDS = ("pooler_output", "deepstack_features")


class VisionOnce:
    """Replaces ``tower.forward``: computes each distinct image of a call once and repeats its features.

    Features of a tower that is not being trained at the moment (frozen, of the reference model, or in a pass without
    gradients) are also kept for later calls, the newest ``keep_bytes`` of them. A call that trains the tower
    forgets them, since its weights are about to change. Values are those of the tower itself up to float rounding.
    """

    def __init__(self, tower: Any, keep_bytes: int = KEEP_BYTES) -> None:
        self._tower, self._forward = tower, tower.forward
        self._kept: LRUCache[Key, dict[str, list[torch.Tensor]]] = LRUCache(keep_bytes, _size)
        self._kind: type[Any] | None = None
        self._weights: dict[int, torch.Tensor] = {}

    def __call__(self, hidden_states: torch.Tensor, grid_thw: torch.Tensor, **kwargs: Any) -> Any:
        """hidden_states: (patches of all images, values of a patch). grid_thw: (images, 3), patches per axis."""
        if any(isinstance(value, torch.Tensor) for value in kwargs.values()):
            return self._forward(hidden_states, grid_thw=grid_thw, **kwargs)  # of the whole call, not to be cut
        trained = torch.is_grad_enabled() and any(weight.requires_grad for weight in self._tower.parameters())
        if trained:
            self._kept.clear()
        patches = grid_thw.prod(-1).tolist()
        keys = self._keys(hidden_states, grid_thw.tolist(), patches)
        places = {key: place for place, key in reversed(list(enumerate(keys)))}  # where each image comes first
        found = {key: self._kept[key] for key in places if key in self._kept}
        new = sorted(place for key, place in places.items() if key not in found)
        if _most_of_all_ranks(len(new), hidden_states.device):
            new = new or [0]  # the weights are gathered from all ranks, so all of them call the tower or none
            images = hidden_states.split(patches)
            with torch.set_grad_enabled(trained):
                output = self._forward(torch.cat([images[i] for i in new]), grid_thw=grid_thw[new], **kwargs)
            self._kind = type(output)
            merged = self._tower.spatial_merge_size**2
            computed = zip([keys[i] for i in new], _cut(output, [patches[i] // merged for i in new]), strict=True)
            for key, features in computed:
                found[key] = features
                if not trained and _size(features) <= self._kept.maxsize:
                    self._kept[key] = features
        assert self._kind is not None
        return self._kind(**_joined([found[key] for key in keys]))

    def _keys(self, hidden_states: torch.Tensor, grids: list[list[int]], patches: list[int]) -> list[Key]:
        """A key of each image: its grid and two random linear hashes, modulo 2**64, of the bits of its values."""
        bits = hidden_states.contiguous().view({2: torch.int16, 4: torch.int32}[hidden_states.element_size()]).long()
        sums = torch.stack([(bits * weights).sum(-1) for weights in self._random(bits.shape[1], bits.device)])
        parts = sums.split(patches, dim=1)
        hashes = torch.stack([(part * self._random(part.shape[1], bits.device)).sum(-1) for part in parts])
        return [(*grid, *key) for grid, key in zip(grids, hashes.tolist(), strict=True)]

    def _random(self, size: int, device: torch.device) -> torch.Tensor:
        """Two fixed sequences of 64-bit numbers, (2, size), always the same for a size."""
        longest = 1 << (size - 1).bit_length()  # few tables, however many sizes of image there are
        if longest not in self._weights:
            generator = torch.Generator().manual_seed(longest)
            numbers = torch.randint(-(2**63), 2**63 - 1, (2, longest), generator=generator)
            self._weights[longest] = numbers.to(device)
        return self._weights[longest][:, :size]


def _size(features: dict[str, list[torch.Tensor]]) -> int:
    return sum(part.nbytes for parts in features.values() for part in parts)


def _most_of_all_ranks(count: int, device: torch.device) -> int:
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return count
    most = torch.tensor(count, device=device)
    torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
    return int(most)


def _cut(output: Any, sizes: list[int]) -> list[dict[str, list[torch.Tensor]]]:
    """The features of each image. Without gradients they are copies, so that none keeps its whole batch alive."""
    cut: list[dict[str, list[torch.Tensor]]] = [{} for _ in sizes]
    for field in _FIELDS:
        value = output.get(field)
        for tensor in [] if value is None else value if isinstance(value, (list, tuple)) else [value]:
            for features, part in zip(cut, tensor.split(sizes), strict=True):
                features.setdefault(field, []).append(part if part.requires_grad else part.clone())
    return cut


def _joined(images: list[dict[str, list[torch.Tensor]]]) -> dict[str, Any]:
    """The tower's output for these images in this order, as far as _FIELDS go."""
    levels = {
        field: [torch.cat(parts) for parts in zip(*(i[field] for i in images), strict=True)] for field in images[0]
    }
    return {field: parts[0] if field == "pooler_output" else parts for field, parts in levels.items()}
