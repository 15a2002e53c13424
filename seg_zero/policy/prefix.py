"""What a policy computed of its last prompt, kept so that the next one about the same pictures computes the rest only.

The prompts of a dialogue begin alike: with the picture, and then the earlier answers, of which each round adds one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    import torch

# Of ``generate``, what describes pictures; they have been seen where their tokens are kept.
_PICTURES = ("pixel_values", "image_grid_thw", "mm_token_type_ids")


@dataclass(frozen=True)
class _Kept:
    """pictures: their hashes; ids: tokens of prompt and answer, of which ``cache`` holds the keys and values;
    deltas: the model's offset of text positions behind these pictures (of M-RoPE)."""

    pictures: tuple[bytes, ...]
    ids: list[int]
    cache: Any
    deltas: Any


class KeptPrompt:
    """The keys and values of the last prompt that a model was given alone, with upstream's own cache.

    Keys and values of a prefix differ by rounding from those computed with the rest of a prompt, as in vLLM's prefix
    cache. One thread at a time may use it.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._kept: _Kept | None = None

    def used(self, inputs: dict[str, Any], pictures: Sequence[Image.Image]) -> dict[str, Any]:
        """The inputs of ``generate`` for one prompt, without what need not be computed again.

        inputs: of the whole prompt, ``input_ids`` being 1 x tokens. What was kept is given away, since ``generate``
        adds to it: :meth:`keep` must follow.
        """
        kept, self._kept = self._kept, None
        if kept is None or kept.pictures != _hashes(pictures):
            return inputs
        ids = inputs["input_ids"][0].tolist()
        known = min(_shared(kept.ids, ids), len(ids) - 1, kept.cache.get_seq_length())
        if self._model.config.image_token_id in ids[known:]:
            return inputs
        kept.cache.crop(known)
        self._model.model.rope_deltas = kept.deltas
        return {name: value for name, value in inputs.items() if name not in _PICTURES} | {
            "past_key_values": kept.cache
        }

    def keep(self, ids: torch.Tensor, cache: Any, pictures: Sequence[Image.Image]) -> None:
        """ids: 1 x tokens of prompt and answer; cache: what ``generate`` returned with them."""
        if not any(cache.is_sliding):  # of a window, a prefix cannot be cut out
            self._kept = _Kept(_hashes(pictures), ids[0].tolist(), cache, self._model.model.rope_deltas)


def _hashes(pictures: Sequence[Image.Image]) -> tuple[bytes, ...]:
    return tuple(hashlib.blake2b(f"{one.size}".encode() + one.tobytes(), digest_size=16).digest() for one in pictures)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many numbers at the beginning are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
