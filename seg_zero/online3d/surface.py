"""The reconstructed surface: for every voxel how many key frames hit it, and its colour.

It stands in for a signed distance field: merging and the output need to know which voxels were seen how often, and
where. A voxel is part of the surface after ``min_hits`` key frames, as the original extracts points of that weight.
"""

from __future__ import annotations

import numba
import numpy as np

from seg_zero.online3d.kernels import project
from seg_zero.online3d.table import grown
from seg_zero.online3d.voxels import VoxelIndex


@numba.njit(cache=True)
def _record(
    voxels: np.ndarray, colour: np.ndarray, row: int, hits: np.ndarray, latest: np.ndarray, colours: np.ndarray,
    weights: np.ndarray,
) -> None:  # fmt: skip
    height, width = voxels.shape
    for v in range(height):
        for u in range(width):
            voxel = voxels[v, u]
            if voxel < 0:
                continue
            if latest[voxel] != row:
                latest[voxel] = row
                hits[voxel] += 1
            if weights[voxel] < 1000:  # a mean of so many does not change any more
                weights[voxel] += 1
                for c in range(3):
                    colours[voxel, c] += (colour[v, u, c] - colours[voxel, c]) / weights[voxel]


def back_project(depth: np.ndarray, intrinsics: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """World points float64 N x 3 of the pixels H x W with a depth above 0, row by row.

    depth: metres along the optical axis. intrinsics: 3 x 3, pixel centres at whole numbers. pose: 4 x 4, camera to
    world.
    """
    v, u = np.nonzero(depth > 0)
    z = depth[v, u].astype(np.float64)
    x = (u - intrinsics[0, 2]) / intrinsics[0, 0] * z
    y = (v - intrinsics[1, 2]) / intrinsics[1, 1] * z
    points: np.ndarray = np.stack([x, y, z], axis=1) @ pose[:3, :3].T + pose[:3, 3]
    return points


class Surface:
    """Voxels in use, with hits and colours by voxel number."""

    def __init__(self, size: float) -> None:
        self.size = size
        self.index = VoxelIndex()
        self._hits = np.zeros(1 << 11, dtype=np.uint16)
        self._latest = np.full(1 << 11, -1, dtype=np.int32)
        self._colours = np.zeros((1 << 11, 3), dtype=np.float32)
        self._weights = np.zeros(1 << 11, dtype=np.uint16)

    def project(self, depth: np.ndarray, intrinsics: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """The voxel number int32 H x W of every pixel, -1 without depth; arguments of :func:`back_project`."""
        index = self.index
        voxels, *table = project(
            *index.state(int(np.count_nonzero(depth > 0))),
            np.ascontiguousarray(depth, dtype=np.float32), np.asarray(intrinsics, dtype=np.float64),
            np.asarray(pose, dtype=np.float64), self.size,
        )  # fmt: skip
        index.keep(*table)
        return np.asarray(voxels)

    def record(self, row: int, voxels: np.ndarray, colour: np.ndarray) -> None:
        """Count a hit in key frame ``row`` for the voxels H x W, and mix in the colours uint8 H x W x 3."""
        self._cover()
        _record(voxels, colour, row, self._hits, self._latest, self._colours, self._weights)

    def _cover(self) -> None:
        count = len(self.index)
        self._hits, self._weights = grown(self._hits, count), grown(self._weights, count)
        self._latest = grown(self._latest, count, -1)
        self._colours = grown(self._colours, count)

    def hits(self) -> np.ndarray:
        """Key frames that hit each voxel."""
        self._cover()
        return self._hits[: len(self.index)]

    def colours(self, voxels: np.ndarray) -> np.ndarray:
        """Mean colours uint8 N x 3 of these voxels."""
        self._cover()
        return self._colours[voxels].round().astype(np.uint8)

    def centres(self, voxels: np.ndarray) -> np.ndarray:
        """Centres float32 N x 3 of these voxels, in metres."""
        return ((self.index.keys(voxels) + 0.5) * self.size).astype(np.float32)

    def points(self, min_hits: int) -> np.ndarray:
        """Numbers of the voxels of the surface."""
        return np.flatnonzero(self.hits() >= min_hits)

    def state(self) -> dict[str, np.ndarray]:
        """All that a checkpoint needs, as arrays."""
        self._cover()
        used = slice(len(self.index))
        return {
            "packed": self.index.packed[used],
            "hits": self._hits[used],
            "latest": self._latest[used],
            "colours": self._colours[used],
            "weights": self._weights[used],
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.index = VoxelIndex()
        self.index.add(state["packed"])
        self._hits, self._latest = state["hits"], state["latest"]
        self._colours, self._weights = state["colours"], state["weights"]

    @property
    def nbytes(self) -> int:
        own = (self._hits, self._latest, self._colours, self._weights)
        return self.index.nbytes + sum(array.nbytes for array in own)
