"""Overlapping windows over a tile, blended with constant memory.

Windows go row by row. What a window adds to pixels that later windows also see is carried: to the right in memory, down
in files, which is also what lets an interrupted run go on where its last row of windows ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seg_zero.errors import InputError
from seg_zero.files import whole_file


@dataclass(frozen=True)
class Span:
    """A window along one side. start, stop: its pixels; done: pixels below are in no later window; before, after:
    pixels that it shares with the window before and after it."""

    start: int
    stop: int
    done: int
    before: int
    after: int

    def ramp(self) -> np.ndarray:
        """float32 weights of its pixels: 1, falling to the sides that it shares with others."""
        place = np.arange(self.stop - self.start, dtype=np.float32)
        up = (place + 1) / (self.before + 1) if self.before else np.ones_like(place)
        down = (place[::-1] + 1) / (self.after + 1) if self.after else np.ones_like(place)
        return np.minimum(1, np.minimum(up, down)).astype(np.float32)


def spans(length: int, window: int, overlap: int) -> list[Span]:
    """Windows of equal size over ``length`` pixels, evenly apart, that share at least ``overlap``.

    Raises InputError for sizes that do not fit each other.
    """
    if window < 1 or not 0 <= overlap <= window // 2:
        raise InputError(
            f"--window {window} and --overlap {overlap} do not fit; give an overlap of up to {window // 2}"
        )
    if length <= window:
        return [Span(0, length, length, 0, 0)]
    count = 1 + -(-(length - window) // (window - overlap))
    starts = [round(number * (length - window) / (count - 1)) for number in range(count)]
    found = []
    for number, start in enumerate(starts):
        before = starts[number - 1] + window - start if number else 0
        after = start + window - starts[number + 1] if number + 1 < count else 0
        done = starts[number + 1] if number + 1 < count else length
        found.append(Span(start, start + window, done, before, after))
    return found


Scores = Callable[[Span, Span], np.ndarray]  # rows and columns of a window to T x H x W


def blend_row(
    row: Span, columns: Sequence[Span], scores: Scores, above: Path | None, below: Path
) -> Iterator[tuple[Span, np.ndarray]]:
    """One row of windows: yields the columns that are done and their blended scores, T x (row.done - row.start) x n.

    above: the folder that the row above wrote, None for the first; below: the folder that this one writes.
    """
    left: np.ndarray | None = None
    weights = row.ramp()[:, None]
    for number, column in enumerate(columns):
        total = scores(row, column) * (weights * column.ramp()[None])
        if left is not None:
            total[:, :, : left.shape[2]] += left
        if above is not None:
            # Columns are carried down in the parts that are done with a window, so each is added once.
            carried = np.load(above / f"{number}.npy")
            total[:, : carried.shape[1], : carried.shape[2]] += carried
        if row.after:
            _save(below / f"{number}.npy", total[:, row.done - row.start :, : column.done - column.start])
        left = total[:, :, column.done - column.start :]
        yield column, total[:, : row.done - row.start, : column.done - column.start]


def _save(path: Path, values: np.ndarray) -> None:
    with whole_file(path) as partial, partial.open("wb") as stream:
        np.save(stream, values)
