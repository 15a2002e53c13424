"""Metrics by round of a dialogue: cIoU, mIoU and P@0.5 of boxes, at a picture's own size and as SegLLM counts.

SegLLM (arXiv 2410.18923, and its evaluation code) puts masks into a square of 1024 pixels, resized by their longer
side; an empty union scores 0 there. It adds 1e-4 to each union, against division by zero; here the ratio is exact, and
the difference is below the fifth decimal for masks of 10 pixels or more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from seg_zero.errors import InputError
from seg_zero.masks import mask_bounds, resize_mask
from seg_zero.metrics.reasoning import MaskCounts, MaskMetrics, count_pixels
from seg_zero.objects import Box, box_iou

FRAME = 1024  # pixels of a side
BOX_THRESHOLD = 0.5


@dataclass
class SegLlmMetrics(MaskMetrics):
    """As rule ``lisa``, but an empty union scores 0."""

    EMPTY: ClassVar[float] = 0.0


@dataclass(frozen=True)
class RoundScore:
    """One round's mask and box against the truth."""

    counts: MaskCounts
    box_iou: float


@dataclass
class _Sums:
    masks: MaskMetrics
    hits: int = 0

    def result(self) -> dict[str, float]:
        found = self.masks.result()
        return {
            "cIoU": found["cIoU"],
            "mIoU": found["gIoU"],
            "P@0.5": self.hits / found["count"],
            "count": found["count"],
        }


@dataclass
class RoundMetrics:
    """Sums by round and over all; shards of any order ``merge`` to the same result. masks: the rule of empty unions."""

    masks: type[MaskMetrics] = MaskMetrics
    sums: dict[int, _Sums] = field(default_factory=dict)

    def add(self, number: int, score: RoundScore) -> None:
        """Add one dialogue's round ``number``, from 1 up."""
        if number < 1:
            raise InputError(f"round {number} cannot be; rounds count from 1")
        sums = self.sums.setdefault(number, _Sums(self.masks()))
        sums.masks.add_counts(score.counts)
        nothing = not score.counts.union
        sums.hits += score.box_iou > BOX_THRESHOLD or (nothing and bool(self.masks.EMPTY))

    def merge(self, other: RoundMetrics) -> RoundMetrics:
        """Add the rounds of ``other``, counted by the same rule; returns self."""
        for number, sums in other.sums.items():
            own = self.sums.setdefault(number, _Sums(self.masks()))
            own.masks.merge(sums.masks)
            own.hits += sums.hits
        return self

    def result(self) -> dict[str, dict[str, float]]:
        """By round ("1", "2" ...) and "all": cIoU, mIoU, P@0.5 (0 to 1) and count.

        A round in which nothing is there and nothing was found is a hit, unless an empty union scores 0. Raises
        InputError without a round.
        """
        if not self.sums:
            raise InputError("there are no rounds to score")
        whole = _Sums(self.masks())
        for sums in self.sums.values():
            whole.masks.merge(sums.masks)
            whole.hits += sums.hits
        return {**{str(number): self.sums[number].result() for number in sorted(self.sums)}, "all": whole.result()}


def score_round(prediction: np.ndarray, truth: np.ndarray, box: Box | None = None) -> RoundScore:
    """A predicted mask against the true one, both boolean H x W. box: None for the mask's own tight box.

    Raises InputError for different shapes.
    """
    counts = count_pixels(prediction, truth)
    found = mask_bounds(prediction) if box is None else box
    return RoundScore(counts, box_iou(found, mask_bounds(truth)))


def in_frame(mask: np.ndarray, side: int = FRAME) -> np.ndarray:
    """A boolean H x W mask in SegLLM's frame: its longer side resized to ``side``, in the upper left of a square."""
    height, width = mask.shape
    scale = side / max(height, width)
    new_height, new_width = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
    framed = np.zeros((side, side), dtype=bool)
    framed[:new_height, :new_width] = resize_mask(mask, (new_width, new_height))
    return framed
