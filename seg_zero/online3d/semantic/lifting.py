"""Feature maps of posed frames, lifted into voxels and averaged."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from seg_zero.online3d.inputs.frames import Frame
from seg_zero.online3d.surface import back_project
from seg_zero.online3d.table import grown
from seg_zero.online3d.voxels import VoxelIndex, pack, voxel_keys


class FeatureVoxels:
    """The mean feature of each voxel of edge ``size`` metres over all pixels of all frames that fall into it.

    Needs 4 bytes for each voxel and channel.
    """

    def __init__(self, size: float = 0.05) -> None:
        self.size = size
        self.index = VoxelIndex()
        self._sums = np.zeros((0, 0), dtype=np.float32)
        self._counts = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.index)

    def add(self, frame: Frame, features: np.ndarray) -> None:
        """Add the feature map float h x w x D of a frame, of any size; it is resized to the depth's, bilinear.

        Raises InputError for points that are too far away to number.
        """
        pixels = np.flatnonzero(frame.depth > 0)
        points = back_project(frame.depth, frame.intrinsics, frame.pose)
        voxels = self.index.add(pack(voxel_keys(points, self.size)))
        numbers, place = np.unique(voxels, return_inverse=True)
        height, width, channels = features.shape
        if not self._sums.size:
            self._sums = np.zeros((0, channels), dtype=np.float32)
        self._sums, self._counts = grown(self._sums, len(self)), grown(self._counts, len(self))
        # Resizing and summing are both linear: one sparse matrix from patches to voxels, and no map at full size.
        pooled = csr_array(
            (np.ones(len(place), dtype=np.float32), (place, np.arange(len(place)))), shape=(len(numbers), len(place))
        ) @ bilinear(frame.depth.shape, (height, width), pixels)
        self._sums[numbers] += pooled @ features.reshape(-1, channels).astype(np.float32)
        self._counts[numbers] += np.bincount(place, minlength=len(numbers))

    @property
    def centres(self) -> np.ndarray:
        """float64 V x 3, in metres."""
        return (self.index.keys(np.arange(len(self))) + 0.5) * self.size

    @property
    def means(self) -> np.ndarray:
        """float32 V x D."""
        return self._sums[: len(self)] / np.maximum(self._counts[: len(self), None], 1)


def bilinear(size: tuple[int, ...], small: tuple[int, int], pixels: np.ndarray) -> csr_array:
    """The weights of the cells of a small map in some pixels (flat indices) of its enlargement to ``size``.

    As torch.nn.functional.interpolate does it with align_corners=False: n x (h * w).
    """
    columns, weights = [], []
    sides = []
    for at, whole, cells in zip(np.divmod(pixels, size[1]), size, small, strict=True):
        place = np.clip((at + 0.5) * cells / whole - 0.5, 0, None)
        low = np.minimum(place.astype(np.int64), cells - 1)
        high = np.minimum(low + 1, cells - 1)
        sides.append(((low, 1 - (place - low)), (high, place - low)))
    for row, down in sides[0]:
        for column, across in sides[1]:
            columns.append(row * small[1] + column)
            weights.append(down * across)
    rows = np.tile(np.arange(len(pixels)), 4)
    values = np.concatenate(weights).astype(np.float32)
    return csr_array((values, (rows, np.concatenate(columns))), shape=(len(pixels), small[0] * small[1]))
