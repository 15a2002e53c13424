"""A prefix tree of sequences: what several of them begin with occurs once. Imports no torch.

The answers to one question share its prompt, and the rounds of a dialogue share their history; a forest of segments
describes both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Segment:
    """Tokens ``start`` to ``stop`` (exclusive) of the sequences ``rows``, which are equal up to ``stop``."""

    rows: tuple[int, ...]
    start: int
    stop: int
    parent: int  # the number of the segment it continues, -1 for a root


def token_keys(ids: Keys, image_token: int, images: Sequence[tuple[int, int]]) -> Keys:
    """The tokens of a sequence, with each image token replaced by a number below zero that identifies its image.

    Two sequences with equal keys up to some place compute the same up to there. ids: (tokens,). images: for each image
    of the sequence, in order, a number (the same for equal images and for no others) and its count of tokens.
    Raises ValueError if the sequence has another number of image tokens than its images.
    """
    places = np.flatnonzero(ids == image_token)
    numbers = [-1 - number for number, tokens in images for _ in range(tokens)]
    if len(places) != len(numbers):
        raise ValueError(f"a sequence has {len(places)} image tokens, and its images have {len(numbers)}")
    keys = ids.astype(np.int64)
    keys[places] = numbers
    return keys


def prefix_tree(sequences: Sequence[Keys], shareable: Sequence[int] | None = None, least: int = 1) -> list[Segment]:
    """The forest of the longest common prefixes of ``sequences``, each segment after its parent.

    Each sequence is the tokens of one root followed by those of a child, and so on to its end. shareable: how many
    first tokens of each sequence may be shared (all of them). least: a shorter segment is not shared, since each level
    costs a call of the attention kernel. Raises ValueError for an empty sequence.
    """
    limits = [len(keys) for keys in sequences] if shareable is None else list(shareable)
    for row, keys in enumerate(sequences):
        if not len(keys):
            raise ValueError(f"sequence {row} is empty")
    found: list[Segment] = []

    def grow(rows: Sequence[int], start: int, parent: int) -> None:
        branches: dict[object, list[int]] = {}
        for row in rows:
            if start < len(sequences[row]):
                alone = start >= limits[row]
                branches.setdefault(("row", row) if alone else int(sequences[row][start]), []).append(row)
        for branch in branches.values():
            stop = _common(sequences, branch, start, limits) if len(branch) > 1 else len(sequences[branch[0]])
            if len(branch) > 1 and stop - start < least:
                for row in branch:
                    found.append(Segment((row,), start, len(sequences[row]), parent))
                continue
            found.append(Segment(tuple(branch), start, stop, parent))
            if len(branch) > 1:
                grow(branch, stop, len(found) - 1)

    grow(range(len(sequences)), 0, -1)
    return found


def _common(sequences: Sequence[Keys], rows: Sequence[int], start: int, limits: Sequence[int]) -> int:
    """The place up to which ``rows`` are equal and may be shared, if they are up to ``start``."""
    stop = min(limits[row] for row in rows)
    first = sequences[rows[0]]
    for row in rows[1:]:
        different = np.flatnonzero(first[start:stop] != sequences[row][start:stop])
        if len(different):
            stop = start + int(different[0])
    return stop
