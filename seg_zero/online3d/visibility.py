"""In which key frames a voxel was covered by any mask: sets of bits that hold only what was seen.

Per voxel a list of pairs (block of 64 key frames, 64 bits). A voxel in view for 300 key frames on end takes five or six
pairs, 16 bytes each; the dense matrix of the original takes four bytes for every voxel and key frame, seen or not.
"""

from __future__ import annotations

import numba
import numpy as np

from seg_zero.online3d.table import grown


@numba.njit(cache=True)
def _record(
    heads: np.ndarray, following: np.ndarray, blocks: np.ndarray, bits: np.ndarray, end: int, row: int,
    voxels: np.ndarray,
) -> int:  # fmt: skip
    block, bit = row >> 6, np.uint64(1) << np.uint64(row & 63)
    for voxel in voxels:
        entry = heads[voxel]  # the latest block comes first
        if entry < 0 or blocks[entry] != block:
            blocks[end] = block
            bits[end] = 0
            following[end] = entry
            heads[voxel] = end
            entry = end
            end += 1
        bits[entry] |= bit
    return end


@numba.njit(cache=True)
def _count(
    heads: np.ndarray, following: np.ndarray, blocks: np.ndarray, bits: np.ndarray, voxels: np.ndarray,
    wanted: np.ndarray,
) -> tuple:  # fmt: skip
    sets, width = wanted.shape
    counts = np.zeros(sets, dtype=np.int64)
    # A stamp instead of a flag, so that nothing has to be cleared between voxels.
    stamps = np.full(sets, -1, dtype=np.int64)
    work = 0
    for i in range(len(voxels)):
        entry, left = heads[voxels[i]], sets
        while entry >= 0 and left > 0:
            block = blocks[entry]
            work += sets
            if block < width:
                for k in range(sets):
                    if stamps[k] != i and bits[entry] & wanted[k, block]:
                        stamps[k] = i
                        counts[k] += 1
                        left -= 1
            entry = following[entry]
    return counts, work


class Visibility:
    """Pairs (voxel, key frame) at which some mask was seen. ``work`` counts the comparisons made so far."""

    def __init__(self) -> None:
        self.work = 0
        self._heads = np.full(1 << 10, -1, dtype=np.int32)
        self._following = np.zeros(1 << 10, dtype=np.int32)
        self._blocks = np.zeros(1 << 10, dtype=np.int32)
        self._bits = np.zeros(1 << 10, dtype=np.uint64)
        self._end = 0

    def record(self, row: int, voxels: np.ndarray) -> None:
        """Voxel numbers covered by a mask in key frame ``row``; rows must not decrease from call to call."""
        if not len(voxels):
            return
        self._heads = grown(self._heads, int(voxels.max()) + 1, -1)
        self._following = grown(self._following, self._end + len(voxels))
        self._blocks = grown(self._blocks, self._end + len(voxels))
        self._bits = grown(self._bits, self._end + len(voxels))
        self._end = _record(self._heads, self._following, self._blocks, self._bits, self._end, row, voxels)

    def count(self, voxels: np.ndarray, frames: list[np.ndarray]) -> np.ndarray:
        """For each set of key frames (bits, see :func:`frame_bits`) the number of these voxels seen in any of them."""
        if not frames or not len(voxels):
            return np.zeros(len(frames), dtype=np.int64)
        self._heads = grown(self._heads, int(voxels.max()) + 1, -1)
        wanted = np.zeros((len(frames), max(len(row) for row in frames)), dtype=np.uint64)
        for row, one in zip(wanted, frames, strict=True):
            row[: len(one)] = one
        counts, work = _count(self._heads, self._following, self._blocks, self._bits, voxels, wanted)
        self.work += work
        return np.asarray(counts)

    def state(self) -> dict[str, np.ndarray]:
        """All that a checkpoint needs, as arrays."""
        used = slice(self._end)
        return {
            "counters": np.array([self.work, self._end], dtype=np.int64),
            "heads": self._heads,
            "following": self._following[used],
            "blocks": self._blocks[used],
            "bits": self._bits[used],
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.work, self._end = state["counters"].tolist()
        self._heads, self._following = state["heads"], state["following"]
        self._blocks, self._bits = state["blocks"], state["bits"]

    @property
    def nbytes(self) -> int:
        return self._heads.nbytes + self._following.nbytes + self._blocks.nbytes + self._bits.nbytes


def frame_bits(row: int) -> np.ndarray:
    """The set of one key frame: uint64, 64 key frames each."""
    bits = np.zeros((row >> 6) + 1, dtype=np.uint64)
    bits[row >> 6] = np.uint64(1) << np.uint64(row & 63)
    return bits


def union_of(sets: list[np.ndarray]) -> np.ndarray:
    """The key frames of any of these sets."""
    out = np.zeros(max(len(one) for one in sets), dtype=np.uint64)
    for one in sets:
        out[: len(one)] |= one
    return out


def frames_of(bits: np.ndarray) -> np.ndarray:
    """The key frames in a set, ascending."""
    flags = (bits[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    return np.flatnonzero(flags.reshape(-1))
