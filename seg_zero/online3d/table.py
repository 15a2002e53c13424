"""Which masks hold a voxel: lists of raw masks per voxel, and a union-find from raw masks to live ones.

A query walks the lists of its own voxels, so its cost does not depend on how many masks there are. Merging two masks
is one union; the lists are not rewritten. What became a duplicate by it, or belongs to a removed mask, leaves a list
when a query next walks it, so lists stay as short as the number of live masks at a voxel.
"""

from __future__ import annotations

import numba
import numpy as np

_DEAD = -1


@numba.njit(cache=True, inline="always")
def _root(parent: np.ndarray, mask: int) -> int:
    """The live mask that a raw one belongs to, or -1; halves the path on the way."""
    while parent[mask] != mask:
        if parent[mask] == _DEAD:
            return _DEAD
        above = parent[parent[mask]]
        if above == _DEAD:
            return _DEAD
        parent[mask] = above
        mask = above
    return mask


@numba.njit(cache=True)
def _roots(parent: np.ndarray, masks: np.ndarray) -> np.ndarray:
    out = np.empty(len(masks), dtype=np.int64)
    for i in range(len(masks)):
        out[i] = _root(parent, masks[i])
    return out


@numba.njit(cache=True)
def _count(
    heads: np.ndarray, following: np.ndarray, owners: np.ndarray, parent: np.ndarray, free: int,
    counts: np.ndarray, stamps: np.ndarray, serial: int, voxels: np.ndarray,
) -> tuple:  # fmt: skip
    """Live masks at these voxels with the number of voxels each holds; counts is left at zero."""
    seen = np.empty(64, dtype=np.int64)
    found, work = 0, 0
    for voxel in voxels:
        serial += 1
        work += 1
        before, entry = -1, heads[voxel]
        while entry >= 0:
            work += 1
            after = following[entry]
            mask = _root(parent, owners[entry])
            if mask == _DEAD or stamps[mask] == serial:
                if before < 0:
                    heads[voxel] = after
                else:
                    following[before] = after
                following[entry] = free
                free = entry
            else:
                owners[entry] = mask
                stamps[mask] = serial
                if counts[mask] == 0:
                    if found == len(seen):
                        larger = np.empty(2 * found, dtype=np.int64)
                        larger[:found] = seen
                        seen = larger
                    seen[found] = mask
                    found += 1
                counts[mask] += 1
                before = entry
            entry = after
    masks = seen[:found].copy()
    numbers = np.empty(found, dtype=np.int64)
    for i in range(found):
        numbers[i] = counts[masks[i]]
        counts[masks[i]] = 0
    return masks, numbers, free, serial, work


@numba.njit(cache=True)
def _insert(
    heads: np.ndarray, following: np.ndarray, owners: np.ndarray, free: int, end: int, mask: int, voxels: np.ndarray
) -> tuple:
    for voxel in voxels:
        if free >= 0:
            entry = free
            free = following[entry]
        else:
            entry = end
            end += 1
        owners[entry] = mask
        following[entry] = heads[voxel]
        heads[voxel] = entry
    return free, end


def grown(array: np.ndarray, length: int, fill: float = 0) -> np.ndarray:
    """The array itself if it has ``length`` entries, or a copy of at least twice the length, filled up."""
    if length <= len(array):
        return array
    larger = np.full((max(length, 2 * len(array)), *array.shape[1:]), fill, dtype=array.dtype)
    larger[: len(array)] = array
    return larger


class VoxelTable:
    """Voxel numbers to live masks. ``work`` counts the voxels and list entries that queries have visited."""

    def __init__(self) -> None:
        self.raw = 0  # masks ever added
        self.work = 0
        self._heads = np.full(1 << 10, -1, dtype=np.int32)
        self._following = np.zeros(1 << 10, dtype=np.int32)
        self._owners = np.zeros(1 << 10, dtype=np.int32)
        self._free, self._end, self._serial = -1, 0, 0
        self._parent = np.zeros(1 << 8, dtype=np.int64)
        self._counts = np.zeros(1 << 8, dtype=np.int64)
        self._stamps = np.zeros(1 << 8, dtype=np.int64)

    def add(self, voxels: np.ndarray) -> int:
        """Enter a new mask with these voxel numbers (no number twice); returns its raw number."""
        mask = self.raw
        self.raw += 1
        self._parent = grown(self._parent, self.raw)
        self._counts = grown(self._counts, self.raw)
        self._stamps = grown(self._stamps, self.raw)
        self._parent[mask] = mask
        self._cover(voxels)
        self._following = grown(self._following, self._end + len(voxels))
        self._owners = grown(self._owners, self._end + len(voxels))
        self._free, self._end = _insert(self._heads, self._following, self._owners, self._free, self._end, mask, voxels)
        return mask

    def overlaps(self, voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Live masks that hold any of these voxels (no number twice), and how many of them each holds."""
        self._cover(voxels)
        masks, numbers, self._free, self._serial, work = _count(
            self._heads, self._following, self._owners, self._parent, self._free,
            self._counts, self._stamps, self._serial, voxels,
        )  # fmt: skip
        self.work += work
        order = np.argsort(masks)
        return masks[order], numbers[order]

    def union(self, keeper: int, others: list[int]) -> None:
        """From now on the live masks ``others`` are the live mask ``keeper``."""
        self._parent[others] = keeper

    def remove(self, mask: int) -> None:
        self._parent[mask] = _DEAD

    def live_of(self, raw: np.ndarray) -> np.ndarray:
        """The live mask of each raw one, -1 for those that were removed."""
        found: np.ndarray = _roots(self._parent, np.asarray(raw, dtype=np.int64))
        return found

    def _cover(self, voxels: np.ndarray) -> None:
        if len(voxels):
            self._heads = grown(self._heads, int(voxels.max()) + 1, -1)

    def state(self) -> dict[str, np.ndarray]:
        """All that a checkpoint needs, as arrays."""
        counters = np.array([self.raw, self.work, self._free, self._end, self._serial], dtype=np.int64)
        used = slice(self._end)
        return {
            "counters": counters,
            "heads": self._heads,
            "following": self._following[used],
            "owners": self._owners[used],
            "parent": self._parent[: self.raw],
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.raw, self.work, self._free, self._end, self._serial = state["counters"].tolist()
        self._heads, self._following = state["heads"], state["following"]
        self._owners, self._parent = state["owners"], state["parent"]
        self._counts = np.zeros(self.raw, dtype=np.int64)
        self._stamps = np.zeros(self.raw, dtype=np.int64)

    @property
    def nbytes(self) -> int:
        arrays = (self._heads, self._following, self._owners, self._parent, self._counts, self._stamps)
        return sum(array.nbytes for array in arrays)
