"""Mask metrics: pure functions of boolean and label arrays, no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

IGNORE = 255


@dataclass
class MaskMetrics:
    """Running gIoU and cIoU by the LISA rules; constant memory.

    Pixels whose truth is 255 are removed from both masks. gIoU is the mean over expressions of I/U, 1.0
    when truth and prediction are both empty; cIoU is the sum of I over the sum of U. Source: LISA
    (arXiv 2308.00692), section 4.
    """

    count: int = 0
    iou_sum: float = 0.0
    intersection: int = 0
    union: int = 0

    def add(self, prediction: np.ndarray, truth: np.ndarray) -> float:
        """Add one expression (prediction boolean H x W; truth H x W of 0/1/255 or boolean); returns its IoU."""
        intersection, union = intersection_union(prediction, truth)
        iou = iou_of(intersection, union)
        self.count += 1
        self.iou_sum += iou
        self.intersection += intersection
        self.union += union
        return iou

    @property
    def giou(self) -> float:
        return self.iou_sum / self.count if self.count else 0.0

    @property
    def ciou(self) -> float:
        if self.union:
            return self.intersection / self.union
        return 1.0 if self.count else 0.0


def intersection_union(prediction: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Pixels in both masks and in either one, without those whose truth is 255 (ignore)."""
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, truth {truth.shape}; resize the prediction")
    if truth.dtype == bool:
        known, positive = np.ones_like(truth), truth
    else:
        known, positive = truth != IGNORE, (truth > 0) & (truth != IGNORE)
    predicted = prediction.astype(bool) & known
    return int((predicted & positive).sum()), int((predicted | positive).sum())


def iou_of(intersection: int, union: int) -> float:
    """Intersection over union; 1 where truth and prediction are both empty (LISA)."""
    return intersection / union if union else 1.0


def evaluate_masks(predictions: Iterable[np.ndarray], truths: Iterable[np.ndarray]) -> dict[str, float]:
    """gIoU and cIoU of paired masks (see :class:`MaskMetrics`), with the number of pairs as ``count``."""
    metrics = MaskMetrics()
    for prediction, truth in zip(predictions, truths, strict=True):
        metrics.add(prediction, truth)
    return {"gIoU": metrics.giou, "cIoU": metrics.ciou, "count": metrics.count}
