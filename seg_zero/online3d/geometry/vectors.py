"""Vectors of the shape of masks: the mean FPFH of the surface points they hold."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from seg_zero.online3d.config import SceneConfig
from seg_zero.online3d.geometry.fpfh import WIDTH, fpfh, neighbour_pairs, normals
from seg_zero.online3d.surface import Surface
from seg_zero.online3d.table import grown

REACH = 3  # radii from a point to the farthest one that its feature depends on: normals, histograms, their mean


class ShapeVectors:
    """Voxel numbers to a vector; the features of the surface follow it as it grows.

    Only what a new point can have changed is computed anew, so the cost follows the new surface, not the whole one.
    """

    def __init__(self, surface: Surface, config: SceneConfig) -> None:
        self.surface = surface
        self.config = config
        self._viewpoints = np.full((1 << 10, 3), np.nan, dtype=np.float64)
        self._features = np.zeros((1 << 10, WIDTH), dtype=np.float32)
        self._described = np.zeros(1 << 10, dtype=bool)
        self._stale = False

    def see(self, voxels: np.ndarray, camera: np.ndarray) -> None:
        """Note from where voxels are seen first, the side to which their normals point.

        voxels: numbers, -1 for none. camera: its place in metres, 3.
        """
        self._viewpoints = grown(self._viewpoints, len(self.surface.index), np.nan)
        numbers = voxels[voxels >= 0]
        self._viewpoints[numbers[np.isnan(self._viewpoints[numbers, 0])]] = camera
        self._stale = True

    def __call__(self, voxels: np.ndarray) -> np.ndarray | None:
        """Mean feature float64 of the surface points among the voxels, None for fewer than ``geo_min_points``."""
        self._refresh()
        known = voxels[voxels < len(self._described)]
        mine = known[self._described[known]]
        if len(mine) < max(self.config.geo_min_points, 1):
            return None
        mean: np.ndarray = self._features[mine].mean(0, dtype=np.float64)
        return mean

    def _refresh(self) -> None:
        if not self._stale:
            return
        self._stale = False
        points = self.surface.points(self.config.min_hits)
        self._described = grown(self._described, len(self.surface.index))
        new = ~self._described[points]
        if not new.any():
            return
        places = (self.surface.index.keys(points) + 0.5) * self.surface.size
        radius = self.config.geo_radius * (1 + 1e-6)  # rounding must not decide about voxels at just this distance
        reach = REACH * radius
        distance, _ = cKDTree(places[new]).query(places, distance_upper_bound=2 * reach * (1 + 1e-6))
        near = np.isfinite(distance)
        changed = distance[near] <= reach
        places = places[near]
        pairs = neighbour_pairs(places, radius)
        found = fpfh(places, normals(places, pairs, self._viewpoints[points[near]]), pairs)
        self._features = grown(self._features, len(self.surface.index), 0)
        self._features[points[near][changed]] = found[changed]
        self._described[points] = True

    def state(self) -> dict[str, np.ndarray]:
        """All that a checkpoint needs, as arrays."""
        return {"viewpoints": self._viewpoints}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self._viewpoints, self._stale = state["viewpoints"], True

    @property
    def nbytes(self) -> int:
        return self._viewpoints.nbytes + self._features.nbytes + self._described.nbytes
