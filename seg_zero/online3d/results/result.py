"""A finished scan as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seg_zero.online3d.results.instances import Instance, point_masks
from seg_zero.online3d.surface import Surface


@dataclass(frozen=True)
class Result:
    """A finished scan.

    points: float32 P x 3; colours: uint8 P x 3; masks: bool P x N. features: N x D, D 0 without features.
    numbers, weights: int N, see :class:`Instance`. key_frames: of each instance.
    """

    points: np.ndarray
    colours: np.ndarray
    masks: np.ndarray
    features: np.ndarray
    numbers: np.ndarray
    weights: np.ndarray
    key_frames: list[np.ndarray]

    @property
    def count(self) -> int:
        """Of instances."""
        return int(self.masks.shape[1])

    @property
    def owner(self) -> np.ndarray:
        """The instance of each point, int32 P, see :func:`owners`."""
        return owners(self.masks)


def result_of(surface: Surface, instances: Sequence[Instance], min_hits: int) -> Result:
    """Points that ``min_hits`` key frames saw and the instances among them, everything in the instances' order."""
    points = surface.points(min_hits)
    return Result(
        surface.centres(points),
        surface.colours(points),
        point_masks(list(instances), points),
        _features(instances),
        np.array([one.number for one in instances], dtype=np.int64),
        np.array([one.weight for one in instances], dtype=np.int64),
        [one.frames for one in instances],
    )


def _features(instances: Sequence[Instance]) -> np.ndarray:
    width = next((len(one.feature) for one in instances if one.feature is not None), 0)
    rows = [np.zeros(width) if one.feature is None else one.feature for one in instances]
    return np.array(rows, dtype=np.float32).reshape(len(instances), width)


def owners(masks: np.ndarray) -> np.ndarray:
    """Which instance each point belongs to, the smallest of several; -1 for none. masks: bool P x N."""
    owner = np.full(len(masks), -1, dtype=np.int32)
    for column in np.argsort(-masks.sum(0), kind="stable"):
        owner[masks[:, column]] = column
    return owner
