"""Integer voxel keys, and the table that numbers the voxels in use from 0 on.

A voxel is a cell of edge ``size`` of a lattice fixed to the world: key = floor(point / size), per axis. Three keys of
21 bits make one whole number, so two points lie in one voxel exactly if their numbers are equal, at any distance from
the origin and without a block in between.
"""

from __future__ import annotations

import numpy as np

from seg_zero.errors import InputError
from seg_zero.online3d.kernels import BITS, EMPTY, LIMIT, add_keys, find_keys

STEP = np.array([1 << (2 * BITS), 1 << BITS, 1], dtype=np.int64)  # what one voxel along x, y and z adds to a number
_FULL = 0.6  # share of the slots in use at which the table grows


def voxel_keys(points: np.ndarray, size: float) -> np.ndarray:
    """Keys int64 N x 3 of points N x 3 in metres."""
    return np.floor(np.asarray(points, dtype=np.float64) / size).astype(np.int64)


def pack(keys: np.ndarray) -> np.ndarray:
    """One int64 per key N x 3. Raises InputError for keys that are out of range."""
    if len(keys) and (keys.min() < -LIMIT or keys.max() >= LIMIT):
        raise InputError(
            f"a point lies {np.abs(keys).max()} voxels from the origin; the limit is {LIMIT}, check the poses"
        )
    packed: np.ndarray = (keys + LIMIT) @ STEP
    return packed


def unpack(packed: np.ndarray) -> np.ndarray:
    """Keys int64 N x 3 of packed numbers."""
    mask = (1 << BITS) - 1
    return np.stack([packed >> (2 * BITS), (packed >> BITS) & mask, packed & mask], axis=1) - LIMIT


def offsets(radius: float, size: float) -> np.ndarray:
    """Packed steps from a voxel to those within ``radius`` metres of it, itself first."""
    reach = int(radius / size + 1e-9)
    axis = np.arange(-reach, reach + 1)
    steps = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    near = steps[(steps**2).sum(1) * size**2 <= radius**2 + 1e-12]
    near = near[np.argsort((near**2).sum(1), kind="stable")]
    return near @ STEP


def half_neighbourhood() -> np.ndarray:
    """Packed steps to 13 of the 26 voxels around one, of which no two are opposite."""
    axis = np.arange(-1, 2)
    steps = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3) @ STEP
    return steps[steps > 0]


def half_ball(radius: float, size: float) -> np.ndarray:
    """Packed steps to half of the voxels within ``radius`` metres of one, of which no two are opposite."""
    steps = offsets(radius, size)
    return steps[steps > 0]


class VoxelIndex:
    """Numbers voxels from 0 on in the order in which they appear: a hash table with open addresses.

    slots, numbers: the table; packed: the key of each number; kernels use these three and ``count`` directly.
    """

    def __init__(self) -> None:
        self.count = 0
        self.slots = np.full(1 << 12, EMPTY, dtype=np.int64)
        self.numbers = np.zeros(1 << 12, dtype=np.int32)
        self.packed = np.zeros(1 << 11, dtype=np.int64)

    def __len__(self) -> int:
        return self.count

    def make_room(self, more: int) -> None:
        """See to it that ``more`` new voxels fit."""
        needed = self.count + more
        if needed > len(self.packed):
            self.packed = np.resize(self.packed, max(needed, 2 * len(self.packed)))
        size = len(self.slots)
        while needed > _FULL * size:
            size *= 2
        if size > len(self.slots):
            self.slots = np.full(size, EMPTY, dtype=np.int64)
            self.numbers = np.zeros(size, dtype=np.int32)
            known = self.packed[: self.count].copy()
            add_keys(self.slots, self.numbers, self.packed, 0, known)

    def add(self, keys: np.ndarray) -> np.ndarray:
        """Numbers int32 N of packed keys, new ones for those not seen before."""
        self.make_room(len(keys))
        found, self.count = add_keys(self.slots, self.numbers, self.packed, self.count, keys)
        return found

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Numbers int32 N of packed keys, -1 for those not seen before."""
        found: np.ndarray = find_keys(self.slots, self.numbers, keys)
        return found

    def keys(self, numbers: np.ndarray) -> np.ndarray:
        """Keys N x 3 of these voxels."""
        return unpack(self.packed[numbers])

    @property
    def nbytes(self) -> int:
        return self.slots.nbytes + self.numbers.nbytes + self.packed.nbytes
