"""The compiled loops over the hash table of voxels: blocks by their keys, and in each block the numbers of its cells.

They stand in one file because numba's cache of compiled code only notices changes of the file a function is in: a loop
elsewhere would go on with an earlier ``place`` and look for voxels where they are not.
"""

from __future__ import annotations

import numba
import numpy as np

BITS = 21
LIMIT = 1 << (BITS - 1)  # keys are from -LIMIT to LIMIT - 1: 26 km at 0.025 m
EMPTY = -1
CELLS = 64  # of a block, 4 x 4 x 4 voxels: neighbours lie close in memory, and few steps leave a block
IN_BLOCKS = ~((3 << (2 * BITS)) | (3 << BITS) | 3)  # a packed key without its place in the block


@numba.njit(cache=True, inline="always")
def place(slots: np.ndarray, block: int) -> int:
    """Where a block is in the slots, or the empty slot where it belongs."""
    mask = len(slots) - 1
    mixed = np.uint64(block) * np.uint64(0x9E3779B97F4A7C15)
    at = np.int64(mixed >> np.uint64(20)) & mask
    while slots[at] != EMPTY and slots[at] != block:
        at = (at + 1) & mask
    return at


@numba.njit(cache=True, inline="always")
def _cell(key: int) -> int:
    """Which of the cells of its block a packed key is."""
    return ((key >> (2 * BITS)) & 3) << 4 | ((key >> BITS) & 3) << 2 | (key & 3)


@numba.njit(cache=True)
def _larger_slots(slots: np.ndarray, rows: np.ndarray) -> tuple:
    new_slots = np.full(2 * len(slots), EMPTY, dtype=np.int64)
    new_rows = np.zeros(2 * len(slots), dtype=np.int32)
    for i in range(len(slots)):
        if slots[i] != EMPTY:
            at = place(new_slots, slots[i])
            new_slots[at], new_rows[at] = slots[i], rows[i]
    return new_slots, new_rows


@numba.njit(cache=True)
def _opened(slots: np.ndarray, rows: np.ndarray, cells: np.ndarray, used: int, block: int) -> tuple:
    """The table with one more block."""
    if 5 * used >= 3 * len(slots):
        slots, rows = _larger_slots(slots, rows)
    if used == len(cells):
        larger = np.full((2 * used, CELLS), -1, dtype=np.int32)
        larger[:used] = cells
        cells = larger
    at = place(slots, block)
    slots[at], rows[at] = block, used
    return slots, rows, cells, used + 1


@numba.njit(cache=True, inline="always")
def _count_with(cells: np.ndarray, row: int, cell: int, packed: np.ndarray, count: int, key: int) -> int:
    """How many voxels there are once the one in this cell has a number, the next one if it had none."""
    if cells[row, cell] >= 0:
        return count
    cells[row, cell] = count
    packed[count] = key
    return count + 1


@numba.njit(cache=True)
def add_keys(slots: np.ndarray, rows: np.ndarray, cells: np.ndarray, used: int, packed: np.ndarray, count: int,
             keys: np.ndarray) -> tuple:  # fmt: skip
    out = np.empty(len(keys), dtype=np.int32)
    last, row = np.int64(EMPTY), 0
    for i in range(len(keys)):
        key = keys[i]
        block = key & IN_BLOCKS
        if block != last:
            at = place(slots, block)
            if slots[at] == EMPTY:
                slots, rows, cells, used = _opened(slots, rows, cells, used, block)
                at = place(slots, block)
            last, row = block, rows[at]
        cell = _cell(key)
        count = _count_with(cells, row, cell, packed, count, key)
        out[i] = cells[row, cell]
    return out, slots, rows, cells, used, count


@numba.njit(cache=True)
def find_keys(slots: np.ndarray, rows: np.ndarray, cells: np.ndarray, keys: np.ndarray) -> np.ndarray:
    out = np.empty(len(keys), dtype=np.int32)
    for i in range(len(keys)):
        at = place(slots, keys[i] & IN_BLOCKS)
        out[i] = cells[rows[at], _cell(keys[i])] if slots[at] != EMPTY else -1
    return out


@numba.njit(cache=True)
def project(
    slots: np.ndarray, rows: np.ndarray, cells: np.ndarray, used: int, packed: np.ndarray, count: int,
    depth: np.ndarray, intrinsics: np.ndarray, pose: np.ndarray, size: float,
) -> tuple:  # fmt: skip
    """The voxel number of every pixel, -1 where there is no depth; points beyond the lattice count as no depth."""
    height, width = depth.shape
    out = np.full((height, width), -1, dtype=np.int32)
    last, number = np.int64(EMPTY), np.int32(-1)
    last_block, row = np.int64(EMPTY), 0
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    across = np.empty((width, 3))  # what the columns add to the directions of the rays
    for u in range(width):
        x = (u - cx) / fx
        for axis in range(3):
            across[u, axis] = pose[axis, 0] * x
    forward_x, forward_y, forward_z = pose[0, 2], pose[1, 2], pose[2, 2]
    eye_x, eye_y, eye_z = pose[0, 3], pose[1, 3], pose[2, 3]
    for v in range(height):
        y = (v - cy) / fy
        down_x, down_y, down_z = pose[0, 1] * y, pose[1, 1] * y, pose[2, 1] * y
        for u in range(width):
            z = np.float64(depth[v, u])
            if not z > 0:
                continue
            a = np.int64(np.floor((z * (across[u, 0] + down_x + forward_x) + eye_x) / size)) + LIMIT
            b = np.int64(np.floor((z * (across[u, 1] + down_y + forward_y) + eye_y) / size)) + LIMIT
            c = np.int64(np.floor((z * (across[u, 2] + down_z + forward_z) + eye_z) / size)) + LIMIT
            if min(a, b, c) < 0 or max(a, b, c) >= 2 * LIMIT:
                continue
            key = (a << (2 * BITS)) + (b << BITS) + c
            if key != last:
                block = key & IN_BLOCKS
                if block != last_block:
                    at = place(slots, block)
                    if slots[at] == EMPTY:
                        slots, rows, cells, used = _opened(slots, rows, cells, used, block)
                        at = place(slots, block)
                    last_block, row = block, rows[at]
                cell = _cell(key)
                count = _count_with(cells, row, cell, packed, count, key)
                last, number = key, cells[row, cell]
            out[v, u] = number
    return out, slots, rows, cells, used, count


@numba.njit(cache=True, inline="always")
def _link(parent: np.ndarray, i: int, j: int) -> None:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    while parent[j] != j:
        parent[j] = parent[parent[j]]
        j = parent[j]
    parent[max(i, j)] = min(i, j)


@numba.njit(cache=True)
def clusters_of(slots: np.ndarray, rows: np.ndarray, cells: np.ndarray, packed: np.ndarray, voxels: np.ndarray,
                local: np.ndarray, steps: np.ndarray, least: int) -> tuple:  # fmt: skip
    """Cluster of each of a mask's voxels, -1 for noise, and how many of the 27 voxels around it the mask holds.

    local: scratch by voxel number, -1 before and after.
    """
    count = len(voxels)
    for i in range(count):
        local[voxels[i]] = i
    around = np.ones(count, dtype=np.int32)
    pairs = np.empty((len(steps) * count if least > 1 else 0, 2), dtype=np.int32)
    parent = np.arange(count)
    end = 0
    last, row = np.int64(EMPTY), 0
    near, near_rows = np.full(CELLS, EMPTY, dtype=np.int64), np.empty(CELLS, dtype=np.int64)
    for i in range(count):
        key = packed[voxels[i]]
        block = key & IN_BLOCKS
        if block != last:
            last, row = block, rows[place(slots, block)]
        for step in steps:
            other = key + step
            beyond = other & IN_BLOCKS
            own = row
            if beyond != block:
                spot = _cell(beyond >> 2)  # blocks around one have different spots
                if near[spot] != beyond:
                    at = place(slots, beyond)
                    near[spot], near_rows[spot] = beyond, rows[at] if slots[at] != EMPTY else -1
                own = near_rows[spot]
                if own < 0:
                    continue
            number = cells[own, _cell(other)]
            if number < 0:
                continue
            j = local[number] if number < len(local) else -1
            if j >= 0:
                around[i] += 1
                around[j] += 1
                if least <= 1:  # there is no outside, and no need to wait for the counts
                    _link(parent, i, j)
                else:
                    pairs[end, 0] = i
                    pairs[end, 1] = j
                    end += 1
    for p in range(end):
        i, j = pairs[p, 0], pairs[p, 1]
        if around[i] >= least and around[j] >= least:
            _link(parent, i, j)
    out = np.full(count, -1, dtype=np.int64)
    for i in range(count):
        if around[i] >= least:
            j = i
            while parent[j] != j:
                j = parent[j]
            out[i] = j
    for p in range(end):
        i, j = pairs[p, 0], pairs[p, 1]
        if around[i] >= least and around[j] < least and out[j] < 0:
            out[j] = out[i]
        elif around[j] >= least and around[i] < least and out[i] < 0:
            out[i] = out[j]
    for i in range(count):
        local[voxels[i]] = -1
    return out, around


@numba.njit(cache=True)
def dilate(slots: np.ndarray, rows: np.ndarray, cells: np.ndarray, used: int, packed: np.ndarray, count: int,
           voxels: np.ndarray, steps: np.ndarray, stamps: np.ndarray, serial: int) -> tuple:  # fmt: skip
    """Numbers of all voxels one of the steps away from these, new ones included, without repetition."""
    out = np.empty(len(voxels) * len(steps), dtype=np.int32)
    end = 0
    last, own = np.int64(EMPTY), 0
    near, near_rows = np.full(CELLS, EMPTY, dtype=np.int64), np.empty(CELLS, dtype=np.int64)
    for voxel in voxels:
        key = packed[voxel]
        block = key & IN_BLOCKS
        if block != last:
            last, own = block, rows[place(slots, block)]
        for step in steps:
            other = key + step
            row = own
            beyond = other & IN_BLOCKS
            if beyond != block:
                spot = _cell(beyond >> 2)
                if near[spot] != beyond:
                    at = place(slots, beyond)
                    if slots[at] == EMPTY:
                        slots, rows, cells, used = _opened(slots, rows, cells, used, beyond)
                        at = place(slots, beyond)
                    near[spot], near_rows[spot] = beyond, rows[at]
                row = near_rows[spot]
            cell = _cell(other)
            number = cells[row, cell]
            if number < 0:
                number = np.int32(count)
                cells[row, cell] = number
                packed[count] = other
                count += 1
            if stamps[number] != serial:
                stamps[number] = serial
                out[end] = number
                end += 1
    return out[:end].copy(), slots, rows, cells, used, count
