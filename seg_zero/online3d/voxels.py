"""Integer voxel keys, and the table that numbers the voxels in use from 0 on.

A voxel is a cell of edge ``size`` of a lattice fixed to the world: key = floor(point / size), per axis. Three keys of
21 bits make one whole number, so two points lie in one voxel exactly if their numbers are equal, at any distance from
the origin and without a block in between.
"""

from __future__ import annotations

import numpy as np

from seg_zero.errors import InputError
from seg_zero.online3d.kernels import BITS, CELLS, EMPTY, LIMIT, add_keys, find_keys

STEP = np.array([1 << (2 * BITS), 1 << BITS, 1], dtype=np.int64)  # what one voxel along x, y and z adds to a number


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
    """Numbers voxels from 0 on in the order in which they appear: a hash table of blocks with open addresses.

    slots, rows: keys of blocks, and which row of ``cells`` each has; cells: the numbers of its voxels, -1 for none;
    packed: the key of each number. :meth:`table` and :meth:`keep` pass them to kernels and back.
    """

    def __init__(self) -> None:
        self.count = 0
        self.packed = np.zeros(1 << 11, dtype=np.int64)
        self._slots = np.full(1 << 8, EMPTY, dtype=np.int64)
        self._rows = np.zeros(1 << 8, dtype=np.int32)
        self._cells = np.full((1 << 7, CELLS), -1, dtype=np.int32)
        self._used = 0

    def __len__(self) -> int:
        return self.count

    @property
    def table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a kernel needs to look voxels up."""
        return self._slots, self._rows, self._cells

    def state(self, more: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, np.ndarray, int]:
        """What a kernel needs to add up to ``more`` new voxels; it returns all but ``packed`` for :meth:`keep`."""
        if self.count + more > len(self.packed):
            self.packed = np.resize(self.packed, max(self.count + more, 2 * len(self.packed)))
        return self._slots, self._rows, self._cells, self._used, self.packed, self.count

    def keep(self, slots: np.ndarray, rows: np.ndarray, cells: np.ndarray, used: int, count: int) -> None:
        """Take over what a kernel returned."""
        self._slots, self._rows, self._cells, self._used, self.count = slots, rows, cells, used, count

    def add(self, keys: np.ndarray) -> np.ndarray:
        """Numbers int32 N of packed keys, new ones for those not seen before."""
        found, *table = add_keys(*self.state(len(keys)), keys)
        self.keep(*table)
        return np.asarray(found)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Numbers int32 N of packed keys, -1 for those not seen before."""
        found: np.ndarray = find_keys(*self.table, keys)
        return found

    def keys(self, numbers: np.ndarray) -> np.ndarray:
        """Keys N x 3 of these voxels."""
        return unpack(self.packed[numbers])

    @property
    def nbytes(self) -> int:
        return self._slots.nbytes + self._rows.nbytes + self._cells.nbytes + self.packed.nbytes
