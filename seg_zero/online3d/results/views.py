"""The objects of a scan as a frame shows them, and the frames that show most of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from seg_zero.online3d.inputs.frames import Frame
from seg_zero.online3d.results.result import Result
from seg_zero.online3d.surface import back_project
from seg_zero.online3d.voxels import pack, unpack, voxel_keys

REACH = 2.0  # voxels from a pixel's point to the surface point that it is taken for; noise moves it by about one


def best_frames(key_frames: Sequence[np.ndarray], count: int) -> list[int]:
    """At most ``count`` frame numbers that show as many objects as possible, each from several sides; ascending.

    key_frames: numbers of the frames of each object. Frames are chosen one by one, always that which is worth most: an
    object that k chosen frames show is worth 4**-k, so what is still missing goes first. Of equals the earliest wins.
    """
    shown: dict[int, list[int]] = defaultdict(list)
    for one, frames in enumerate(key_frames):
        for frame in frames.tolist():
            shown[frame].append(one)
    worth = [1.0] * len(key_frames)
    chosen: list[int] = []
    while shown and len(chosen) < count:
        best = min(shown, key=lambda frame: (-sum(worth[one] for one in shown[frame]), frame))
        for one in shown.pop(best):
            worth[one] /= 4
        chosen.append(best)
    return sorted(chosen)


class InstanceViews:
    """Says which object each pixel of a frame shows, given the points of a finished scan."""

    def __init__(self, result: Result, voxel_size: float) -> None:
        self._owner = np.append(result.owner, np.int32(-1))  # the last is for what is far from every point
        self._size = voxel_size
        self._tree = cKDTree(result.points.astype(np.float64))

    def see(self, frame: Frame) -> np.ndarray:
        """The column of the object int32 H x W, -1 where there is none or no depth."""
        seen = np.full(frame.depth.shape, -1, dtype=np.int32)
        packed = pack(voxel_keys(back_project(frame.depth, frame.intrinsics, frame.pose), self._size))
        voxels, place = np.unique(packed, return_inverse=True)
        centres = (unpack(voxels) + 0.5) * self._size
        _, nearest = self._tree.query(centres, distance_upper_bound=REACH * self._size * (1 + 1e-6))
        seen[frame.depth > 0] = self._owner[nearest[place]]
        return seen
