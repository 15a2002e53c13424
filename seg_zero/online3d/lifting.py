"""A 2D mask to a set of voxels: valid depth, the largest cluster, no outliers, then the voxels around.

Clusters are DBSCAN's, on the lattice: a voxel with at least ``cluster_min`` occupied ones among the 27 around it,
itself included, is inside; the insides of a cluster touch; what touches an inside belongs to its cluster; the rest is
noise, and never a cluster.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numba
import numpy as np
from scipy.spatial import cKDTree

from seg_zero.online3d.config import SceneConfig
from seg_zero.online3d.kernels import clusters_of, dilate
from seg_zero.online3d.surface import Surface
from seg_zero.online3d.table import grown
from seg_zero.online3d.voxels import half_neighbourhood, offsets

NOISE = -1


@numba.njit(cache=True)
def _gather(voxels: np.ndarray, labels: np.ndarray, count: int, stamps: np.ndarray, serial: int) -> tuple:
    """Voxels of each mask without repetition, one mask after the other, and how many pixels lie in each; which masks
    have any pixel, with depth or without."""
    pixels = np.zeros(count + 2, dtype=np.int64)
    given = np.zeros(count + 1, dtype=np.bool_)
    flat, mark = voxels.ravel(), labels.ravel()
    for i in range(len(flat)):
        if mark[i] > 0:
            given[mark[i]] = True
            if flat[i] >= 0:
                pixels[mark[i] + 1] += 1
    starts = np.cumsum(pixels)
    order = np.empty(starts[-1], dtype=np.int32)
    cursor = starts.copy()
    for i in range(len(flat)):
        if mark[i] > 0 and flat[i] >= 0:
            order[cursor[mark[i]]] = flat[i]
            cursor[mark[i]] += 1
    unique = np.empty(len(order), dtype=np.int32)
    amounts = np.zeros(len(order), dtype=np.int32)
    bounds = np.zeros(count + 1, dtype=np.int64)
    end = 0
    for mask in range(1, count + 1):
        start = end
        for i in range(starts[mask], starts[mask + 1]):
            voxel = order[i]
            if stamps[voxel] < serial + start:  # serials grow by the number of places handed out
                stamps[voxel] = serial + end
                unique[end] = voxel
                end += 1
            amounts[stamps[voxel] - serial] += 1
        bounds[mask] = end
    return unique[:end].copy(), amounts[:end].copy(), bounds, given, serial + end


def largest_cluster(clusters: np.ndarray, weights: np.ndarray | None = None, noise_counts: bool = False) -> np.ndarray:
    """Which entries belong to the cluster with the most entries, or the greatest weight; none if all are noise.

    noise_counts: whether noise may be the largest one, as in the released code.
    """
    sizes = np.bincount(clusters - NOISE, weights, minlength=1)
    if not noise_counts:
        sizes[0] = 0
    largest: np.ndarray = clusters == (np.argmax(sizes) + NOISE if sizes.any() else len(clusters))
    return largest


def not_far(points: np.ndarray, neighbours: int, sigma: float) -> np.ndarray:
    """Which points N x 3 are not much farther from their neighbours than usual: mean plus ``sigma`` deviations."""
    if len(points) <= neighbours or sigma <= 0:
        return np.ones(len(points), dtype=bool)
    distances = cKDTree(points).query(points, k=neighbours)[0].mean(1)
    near: np.ndarray = distances <= distances.mean() + sigma * distances.std()
    return near


def not_lonely(around: np.ndarray, sigma: float) -> np.ndarray:
    """Which voxels do not have much fewer others around them than usual: mean less ``sigma`` deviations."""
    if len(around) == 0 or sigma <= 0:
        return np.ones(len(around), dtype=bool)
    crowded: np.ndarray = around >= around.mean() - sigma * around.std()
    return crowded


@dataclass(frozen=True)
class Lifted:
    """Voxel numbers (no number twice) of a mask, which had the number ``number`` in its frame."""

    number: int
    voxels: np.ndarray


@dataclass
class Lifter:
    """Turns label maps into voxel sets; holds scratch memory and what it has dropped, by reason."""

    surface: Surface
    config: SceneConfig
    dropped: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._steps = half_neighbourhood()
        self._ball = offsets(self.config.query_radius, self.config.voxel_size)
        self._local = np.full(1 << 10, -1, dtype=np.int32)
        self._stamps = np.full(1 << 10, -1, dtype=np.int64)
        self._serial = 0

    def lift(self, voxels: np.ndarray, labels: np.ndarray) -> list[Lifted]:
        """Masks of a label map int H x W (0: none), given the voxel number of every pixel (-1: no depth)."""
        config, index = self.config, self.surface.index
        count = int(labels.max(initial=0))
        self._local = grown(self._local, len(index), -1)
        self._stamps = grown(self._stamps, len(index), -1)
        unique, amounts, bounds, given, self._serial = _gather(
            voxels, np.ascontiguousarray(labels, dtype=np.int32), count, self._stamps, self._serial + 1
        )
        found = []
        for number in range(1, count + 1):
            mine = slice(bounds[number - 1], bounds[number])
            if mine.start == mine.stop or (pixels := int(amounts[mine].sum())) < config.few_pixel:
                self.dropped["few pixels with depth"] += int(given[number])
                continue
            kept = self._core(unique[mine], amounts[mine])
            if np.count_nonzero(kept) < config.few_voxel:
                self.dropped["few voxels"] += 1
            elif amounts[mine][kept].sum() < config.coverage * pixels:
                self.dropped["scattered"] += 1
            else:
                found.append(Lifted(number, self._around(unique[mine][kept])))
        return found

    def _core(self, voxels: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Which of a mask's voxels are in its largest cluster and no outliers of that.

        The largest cluster is that with the most pixels; as released, with the most voxels, which favours what is far.
        """
        index, config = self.surface.index, self.config
        clusters, around = clusters_of(*index.table, index.packed, voxels, self._local, self._steps, config.cluster_min)
        kept = largest_cluster(clusters, None if config.released else pixels, config.released)
        places = np.flatnonzero(kept)
        if config.released:
            points = index.keys(voxels[places]).astype(np.float64)
            kept[places] = not_far(points, config.outlier_neighbours, config.outlier_sigma)
        else:
            kept[places] = not_lonely(around[places], config.outlier_sigma)
        return kept

    def _around(self, voxels: np.ndarray) -> np.ndarray:
        """Numbers of all voxels within ``query_radius`` of these."""
        index, steps = self.surface.index, self._ball
        self._stamps = grown(self._stamps, index.count + len(voxels) * len(steps), -1)
        self._serial += 1
        state = index.state(len(voxels) * len(steps))
        found, *table = dilate(*state, voxels, steps, self._stamps, self._serial)
        index.keep(*table)
        return np.asarray(found)
