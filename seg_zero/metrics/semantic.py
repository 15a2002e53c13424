"""Semantic segmentation: one confusion matrix, two published rules.

    confusion = Confusion(num_classes=20)
    confusion.add(prediction, truth)        # H x W labels; truth 255 is ignored
    confusion.result()                      # mmseg: {"mIoU": ..., "mAcc": ..., "aAcc": ...}
    confusion.result("detectron2")          # {"mIoU": ..., "fwIoU": ..., "mACC": ..., "pACC": ...}

The rules differ in classes that are predicted but absent from the truth: mmseg counts them as 0, detectron2 leaves
them out. Both sum pixels over all images before they divide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from seg_zero.errors import InputError

IGNORE = 255
Rule = Literal["mmseg", "detectron2"]
RULES: tuple[Rule, ...] = ("mmseg", "detectron2")


def reduce_zero_label(truth: np.ndarray) -> np.ndarray:
    """Labels of a data set whose 0 means "no class": 0 becomes 255, the others go down by 1, 255 stays."""
    return np.where((truth == 0) | (truth == IGNORE), IGNORE, truth.astype(np.int64) - 1)


@dataclass
class Confusion:
    """Pixels by true class (rows) and predicted class (columns); the last column is pixels without a prediction.

    Counts are exact: the order of images and their split into shards do not matter.
    """

    num_classes: int
    ignore: int = IGNORE
    matrix: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise InputError(f"{self.num_classes} classes; give at least 1")
        self.matrix = np.zeros((self.num_classes, self.num_classes + 1), dtype=np.int64)

    def add(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Add one image: H x W integers from 0. ``ignore`` in the truth leaves a pixel out; in the prediction it means
        that none was made there.

        Raises InputError for other values and for shapes that differ.
        """
        if prediction.shape != truth.shape:
            raise InputError(f"prediction has shape {prediction.shape}, truth {truth.shape}; resize the prediction")
        counted = truth != self.ignore
        true, predicted = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
        predicted = np.where(predicted == self.ignore, self.num_classes, predicted)
        self._check("truth", true, self.num_classes - 1)
        self._check("prediction", predicted, self.num_classes)
        cells = true * (self.num_classes + 1) + predicted
        self.matrix += np.bincount(cells, minlength=self.matrix.size).reshape(self.matrix.shape)

    def _check(self, name: str, values: np.ndarray, highest: int) -> None:
        outside = values[(values < 0) | (values > highest)]
        if len(outside):
            raise InputError(
                f"{name} holds the value {outside[0]}; with {self.num_classes} classes give 0 to "
                f"{self.num_classes - 1}, and {self.ignore} for pixels that do not count"
            )

    def merge(self, other: Confusion) -> Confusion:
        """Add the images of another matrix; returns self."""
        if (self.num_classes, self.ignore) != (other.num_classes, other.ignore):
            raise InputError(f"{other.num_classes} classes cannot be merged into {self.num_classes}; use one list")
        self.matrix += other.matrix
        return self

    def iou(self, rule: Rule = "mmseg") -> np.ndarray:
        """Intersection over union of each class, 0..1; NaN where the rule has no value."""
        right, true, predicted = self._sums()
        union = true + predicted - right
        return _ratio(right, union, union > 0 if rule == "mmseg" else true > 0)

    def accuracy(self) -> np.ndarray:
        """Fraction of each class's true pixels that are right, 0..1; NaN for a class absent from the truth."""
        right, true, _ = self._sums()
        return _ratio(right, true, true > 0)

    def result(self, rule: Rule = "mmseg") -> dict[str, float]:
        """The numbers of a rule, fractions 0..1. Raises InputError without a pixel, and for another rule."""
        if rule not in RULES:
            raise InputError(f"rule {rule!r} is unknown; choose one of {', '.join(RULES)}")
        if not self.matrix.any():
            raise InputError("no pixel counts: every truth is empty or ignored; give truths with classes")
        right, true, _ = self._sums()
        iou, overall = self.iou(rule), float(right.sum() / true.sum())
        numbers = {"mIoU": float(np.nanmean(iou))}
        if rule == "mmseg":
            return {**numbers, "mAcc": float(np.nanmean(self.accuracy())), "aAcc": overall}
        there = true > 0
        weighted = float((iou[there] * true[there]).sum() / true.sum())
        return {**numbers, "fwIoU": weighted, "mACC": float(np.nanmean(self.accuracy())), "pACC": overall}

    def _sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixels of each class: right, true, predicted."""
        return np.diagonal(self.matrix), self.matrix.sum(axis=1), self.matrix[:, : self.num_classes].sum(axis=0)


def _ratio(part: np.ndarray, whole: np.ndarray, valid: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=valid)
