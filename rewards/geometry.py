"""Box and point geometry shared by the reward terms; arrays are numpy, coordinates are pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def box_iou_inclusive(a: Sequence[float], b: Sequence[float]) -> float:
    """IoU of two boxes whose corner pixels both count (+1), as in the published rewards.

    The intersection counts only if it has x1 < x2 and y1 < y2. Raises ZeroDivisionError like the
    published code when both areas are empty.
    """
    x1, y1, x2, y2 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    inter = (x2 - x1 + 1) * (y2 - y1 + 1) if x1 < x2 and y1 < y2 else 0
    area_a = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
    area_b = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return inter / (area_a + area_b - inter)


def pairwise_iou_inclusive(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """:func:`box_iou_inclusive` of every box in ``a`` (N x 4) with every box in ``b`` (M x 4): N x M."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    size = high - low
    inter = np.where((size > 0).all(axis=2), (size + 1).prod(axis=2), 0.0)
    area_a = (a[:, 2:] - a[:, :2] + 1).prod(axis=1)
    area_b = (b[:, 2:] - b[:, :2] + 1).prod(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return inter / (area_a[:, None] + area_b[None, :] - inter)


def pairwise_l1(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean absolute difference of the 4 coordinates, N x M."""
    return np.abs(a[:, None, :] - b[None, :, :]).mean(axis=2)


def pairwise_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distance of points ``a`` (N x 2) and ``b`` (M x 2), N x M."""
    return np.sqrt(((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2))
