"""What a scene says about its encoder: cosines of different things, and of one thing seen twice.

No cosine means the same for two encoders: unrelated pictures have 0.1 for one and 0.8 for another. Both levels can be
read off a scene without any truth. Masks of one key frame are different things, but for the few that are parts of one;
masks of two frames that hold each other almost fully are one thing. The medians of both take the places of
``seman_min_value`` and of 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seg_zero.online3d.vectors import unit_rows

BINS = 400  # from -1 to 1
LEAST_PAIRS = 20  # of each kind, before they replace the fixed values
LEAST_GAP = 0.02  # between the two levels; an encoder with less cannot tell the things of this scene apart
HOLD = 0.8  # fraction of each of two masks inside the other that makes them one thing


@dataclass(frozen=True)
class Levels:
    """Median cosines: of different things, of one thing; and how many pairs they come from."""

    different: float
    same: float
    different_pairs: int
    same_pairs: int

    @property
    def tells_apart(self) -> bool:
        return self.same - self.different >= LEAST_GAP

    def __str__(self) -> str:
        text = (
            f"cosine {self.different:.2f} of different things ({self.different_pairs} pairs), {self.same:.2f} of one "
            f"thing ({self.same_pairs} pairs)"
        )
        return text if self.tells_apart else f"{text}: features cannot tell the things apart and did not count"


class Calibration:
    """Histograms of the cosines seen so far; their size does not grow with the scene."""

    def __init__(self) -> None:
        self._different = np.zeros(BINS, dtype=np.int64)
        self._same = np.zeros(BINS, dtype=np.int64)

    def see_frame(self, vectors: list[np.ndarray]) -> None:
        """Vectors of the masks of one key frame."""
        if len(vectors) > 1:
            unit = unit_rows(np.stack(vectors))
            _count(self._different, (unit @ unit.T)[np.tril_indices(len(unit), -1)])

    def see_same(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Pairs of vectors of masks that hold each other."""
        if pairs:
            first, second = (unit_rows(np.stack(side)) for side in zip(*pairs, strict=True))
            _count(self._same, np.einsum("md,md->m", first, second))

    def levels(self) -> Levels | None:
        """None before :data:`LEAST_PAIRS` pairs of each kind."""
        counts = int(self._different.sum()), int(self._same.sum())
        if min(counts) < LEAST_PAIRS:
            return None
        return Levels(_median(self._different), _median(self._same), *counts)

    def state(self) -> dict[str, np.ndarray]:
        """All that a checkpoint needs, as arrays."""
        return {"different": self._different, "same": self._same}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self._different, self._same = state["different"], state["same"]


def _count(histogram: np.ndarray, cosines: np.ndarray) -> None:
    places = ((cosines + 1) * (BINS / 2)).astype(np.int64).clip(0, BINS - 1)
    histogram += np.bincount(places, minlength=BINS)


def _median(histogram: np.ndarray) -> float:
    """The middle of the bin in which half of the counts is reached."""
    place = int(np.searchsorted(np.cumsum(histogram), histogram.sum() / 2))
    return (place + 0.5) * 2 / BINS - 1
