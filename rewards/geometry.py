"""Box and point geometry shared by the reward terms; arrays are numpy, coordinates are pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def published_box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """IoU of two boxes whose corner pixels both count (+1), as in the published single-object rewards.

    The intersection counts only if it has x1 < x2 and y1 < y2, so a box of one row of pixels never has any. Raises
    ZeroDivisionError like the published code when both areas are empty.
    """
    x1, y1, x2, y2 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    inter = (x2 - x1 + 1) * (y2 - y1 + 1) if x1 < x2 and y1 < y2 else 0
    area_a = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
    area_b = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return inter / (area_a + area_b - inter)


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of every upright box in ``a`` (N x 4) with every one in ``b`` (M x 4), corner pixels included: N x M.

    Boxes of one row or column of pixels have an area too.
    """
    # Coordinates first: reductions over an axis of two cost several times as much.
    mine, other = a.T[:, :, None], b.T[:, None]
    sides = np.minimum(mine[2:], other[2:]) - np.maximum(mine[:2], other[:2]) + 1
    width, height = np.maximum(sides, 0)
    inter = width * height
    areas = _area(mine) + _area(other)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(inter / (areas - inter))


def _area(corners: np.ndarray) -> np.ndarray:
    width, height = corners[2:] - corners[:2] + 1
    return np.asarray(width * height)


def pairwise_l1(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean absolute difference of the 4 coordinates, N x M."""
    return np.abs(a[:, None, :] - b[None, :, :]).mean(axis=2)


def pairwise_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distance of points ``a`` (N x 2) and ``b`` (M x 2), N x M."""
    x, y = a[:, None, 0] - b[None, :, 0], a[:, None, 1] - b[None, :, 1]
    return np.asarray(np.sqrt(x * x + y * y))  # np.hypot takes twice as long, for numbers that no coordinate reaches
