"""verl's batches of separate sequences, as flat rows of shared prefixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seg_zero.training.engine.shared_prefix.layout import Layout
from seg_zero.training.engine.shared_prefix.tree import Keys, Segment, prefix_tree, token_keys

Images = Mapping[str, torch.Tensor]  # pixel_values (patches, values), image_grid_thw (images, 3); or nothing
_SAMPLE = 64  # values by which images are told apart before they are compared whole


@dataclass(frozen=True)
class ImageTokens:
    """How a model's prompts hold images: the number of their token, and patches along a side of one token."""

    token: int
    merge: int

    def counts(self, images: Images) -> list[int]:
        """Tokens of each image of a sequence."""
        if "image_grid_thw" not in images:
            return []
        return [int(patches) // self.merge**2 for patches in images["image_grid_thw"].prod(-1)]


class ImageNumbers:
    """Numbers for images: equal ones have the same, all others different ones."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], list[tuple[int, torch.Tensor]]] = {}
        self._count = 0

    def __call__(self, images: Images) -> list[int]:
        """A number for each image of a sequence."""
        if "image_grid_thw" not in images:
            return []
        grids = images["image_grid_thw"]
        patches = images["pixel_values"].split(grids.prod(-1).tolist())
        return [self._number(tuple(grid), pixels) for grid, pixels in zip(grids.tolist(), patches, strict=True)]

    def _number(self, grid: tuple[int, ...], pixels: torch.Tensor) -> int:
        flat = pixels.flatten()
        sample = tuple(flat[:: max(1, len(flat) // _SAMPLE)].tolist())
        candidates = self._known.setdefault((grid, sample), [])
        for number, other in candidates:
            if pixels.data_ptr() == other.data_ptr() or pixels.equal(other):
                return number
        candidates.append((self._count, pixels))
        self._count += 1
        return self._count - 1


def opening(keys: Keys) -> Keys:
    """What the prompts of one picture begin with alike: all up to the end of the first image; all if there is none."""
    places = np.flatnonzero(keys < 0)
    if not len(places):
        return keys
    others = np.flatnonzero(keys[places[0] :] != keys[places[0]])
    return keys[: places[0] + others[0]] if len(others) else keys


def common(one: Keys, other: Keys) -> int:
    """How many first keys are the same."""
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length


def prompt_keys(prompts: Sequence[torch.Tensor], images: Sequence[Images], tokens: ImageTokens) -> list[Keys]:
    """Of each row, keys of its prompt's tokens: equal prompts about equal images have equal keys, and no others."""
    number = ImageNumbers()
    return [
        token_keys(ids.cpu().numpy(), tokens.token, list(zip(number(shown), tokens.counts(shown), strict=True)))
        for ids, shown in zip(prompts, images, strict=True)
    ]


@dataclass(frozen=True)
class FlatRow:
    """Several sequences with shared prefixes as one row of a model, and the way back.

    tokens: (row,) which of the sequences' tokens, one sequence after the other, each token of the row is.
    logits_at: (predicted,) places in the row whose logits predict the answers, answer by answer.
    predicted: (predicted,) the same places among the sequences' tokens; each predicts the token after it.
    images: the images in the order of their tokens in the row, as a sequence and a place among its images.
    """

    layout: Layout
    tokens: torch.Tensor
    logits_at: torch.Tensor
    predicted: torch.Tensor
    images: tuple[tuple[int, int], ...]


def flat_row(
    sequences: Sequence[torch.Tensor],
    prompts: Sequence[int],
    parts: Sequence[int],
    images: Sequence[Images],
    tokens: ImageTokens,
    least: int = 1,
) -> FlatRow:
    """The row of a micro-batch.

    sequences: ids of each prompt with its answer. prompts: tokens of each prompt. parts: how many sequences in a row
    have something in common, for each such group: what their prompts (and images) begin with alike is computed once.
    images: what each sequence shows. Answers show nothing. least: fewer tokens are not shared.
    """
    ids = [sequence.cpu().numpy() for sequence in sequences]
    heads = prompt_keys([one[:n] for one, n in zip(sequences, prompts, strict=True)], images, tokens)
    keys = [np.concatenate([head, one[len(head) :]]) for head, one in zip(heads, ids, strict=True)]
    forest: list[Segment] = []
    first = 0
    for size in parts:
        here = slice(first, first + size)
        root = len(forest)
        for part in prefix_tree(keys[here], prompts[here], least):
            rows = tuple(first + row for row in part.rows)
            parent = part.parent + root if part.parent >= 0 else -1
            forest.append(Segment(rows, part.start, part.stop, parent))
        first += size
    layout = Layout(forest)
    starts = [0]
    for sequence in ids:
        starts.append(starts[-1] + len(sequence))
    chosen, shown = [], []
    for segment in forest:
        row = segment.rows[0]
        chosen.append(torch.arange(starts[row] + segment.start, starts[row] + segment.stop))
        marks = ids[row][: segment.stop] == tokens.token
        before, here_too = int(marks[: segment.start].sum()), int(marks.sum())
        at = 0
        for place, count in enumerate(tokens.counts(images[row])):
            if before <= at < here_too:
                shown.append((row, place))
            at += count
    logits_at, predicted = [], []
    for row, prompt in enumerate(prompts):
        logits_at.append(layout.places(row)[prompt - 1 : -1])
        predicted.append(torch.arange(starts[row] + prompt - 1, starts[row + 1] - 1))
    return FlatRow(layout, torch.cat(chosen), torch.cat(logits_at), torch.cat(predicted), tuple(shown))


def shown_images(row: FlatRow, images: Sequence[Images]) -> dict[str, torch.Tensor]:
    """The images of a row as a model takes them; empty if it shows none."""
    pixels, grids = [], []
    for sequence, place in row.images:
        grid = images[sequence]["image_grid_thw"]
        pixels.append(images[sequence]["pixel_values"].split(grid.prod(-1).tolist())[place])
        grids.append(grid[place])
    return {"pixel_values": torch.cat(pixels), "image_grid_thw": torch.stack(grids)} if pixels else {}
