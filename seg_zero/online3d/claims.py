"""Which voxels of a frame one mask claims, and which several: in steps proportional to the masks' voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from seg_zero.online3d.table import grown


@numba.njit(cache=True)
def _count(voxels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Voxels without repetition, in any order; counts holds how often each appears."""
    out = np.empty(len(voxels), dtype=np.int32)
    end = 0
    for voxel in voxels:
        if counts[voxel] == 0:
            out[end] = voxel
            end += 1
        counts[voxel] += 1
    return out[:end].copy()


@dataclass(frozen=True)
class Claimed:
    """covered: all voxels of the masks, each once; own: those that each mask alone claims; boundary: the others."""

    covered: np.ndarray
    own: list[np.ndarray]
    boundary: np.ndarray


class Claims:
    """Counts claims with scratch memory that is kept from frame to frame."""

    def __init__(self) -> None:
        self._counts = np.zeros(1 << 10, dtype=np.int32)

    def of(self, masks: Sequence[np.ndarray]) -> Claimed:
        """Claims of masks of one frame, each voxel numbers without repetition. Own voxels keep their order."""
        everything = np.concatenate([np.zeros(0, dtype=np.int32), *masks]).astype(np.int32)
        self._counts = grown(self._counts, int(everything.max(initial=-1)) + 1)
        covered = np.sort(_count(everything, self._counts))  # what is stored in order is near when it is read in order
        alone = self._counts[everything] == 1
        ends = np.cumsum([len(mask) for mask in masks], dtype=np.int64)[:-1]
        own = [part[single] for part, single in zip(np.split(everything, ends), np.split(alone, ends), strict=True)]
        boundary = covered[self._counts[covered] > 1]
        self._counts[covered] = 0
        return Claimed(covered, own if len(masks) else [], boundary)
