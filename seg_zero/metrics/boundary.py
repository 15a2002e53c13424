"""Boundaries of label maps: how well the pixels near the edges are labelled, by two rules.

    boundary = BoundaryConfusion(num_classes=6)     # detectron2's SemSegEvaluator
    boundary.add(prediction, truth)                 # H x W labels; truth 255 is ignored
    boundary.iou()                                  # of each class

    regions = BoundaryRegions(num_classes=6)        # Boundary IoU of Cheng et al. (arXiv 2103.16562), class by class
    regions.add(prediction, truth)
    regions.iou()

detectron2 erodes the map of numbers, not each class, and takes the difference: what a pixel near an edge counts as
depends on the numbers of the classes, and a renumbering changes the result. It is kept for comparison with published
numbers. The second rule depends on the regions alone. Both sum pixels over all images before they divide.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from seg_zero.errors import InputError
from seg_zero.metrics.semantic import IGNORE

RATIO = 0.02  # of the diagonal: the width of a boundary
MOST_CLASSES = 254  # that 8 bits hold beside the ignored pixels


def boundary_width(shape: tuple[int, int], ratio: float = RATIO) -> int:
    """In pixels, at least 1."""
    return max(1, round(ratio * float(np.hypot(*shape))))


def eroded(values: np.ndarray, width: int) -> np.ndarray:
    """uint8 H x W, the minimum within ``width`` pixels; what lies outside counts as 0."""
    padded = cv2.copyMakeBorder(values, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]


@dataclass
class BoundaryConfusion:
    """Pixels by what they are near the edges, true in rows, predicted in columns; the last of both are ignored pixels.

    Counts are exact: the order of images and their split into shards do not matter.
    """

    num_classes: int
    ignore: int = IGNORE
    matrix: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        _check_classes(self.num_classes)
        self.matrix = np.zeros((self.num_classes + 1, self.num_classes + 1), dtype=np.int64)

    def add(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Add one image: H x W integers from 0, ``ignore`` as in ``Confusion.add``."""
        true, predicted = (_numbers(values, self.num_classes, self.ignore) for values in (truth, prediction))
        _check_shapes(prediction, truth)
        width = boundary_width(truth.shape)
        cells = [values - eroded(values, width) for values in (true, predicted)]
        flat = cells[0].astype(np.int64) * (self.num_classes + 1) + cells[1]
        self.matrix += np.bincount(flat.ravel(), minlength=self.matrix.size).reshape(self.matrix.shape)

    def merge(self, other: BoundaryConfusion) -> BoundaryConfusion:
        """Add the images of another matrix; returns self."""
        if (self.num_classes, self.ignore) != (other.num_classes, other.ignore):
            raise InputError(f"{other.num_classes} classes cannot be merged into {self.num_classes}; use one list")
        self.matrix += other.matrix
        return self

    def iou(self) -> np.ndarray:
        """Of each class, 0..1; NaN for classes in neither truth nor prediction."""
        counted = self.matrix[: self.num_classes, : self.num_classes]
        right = np.diagonal(counted)
        union = counted.sum(axis=0) + counted.sum(axis=1) - right
        return np.divide(right, union, out=np.full(self.num_classes, np.nan), where=union > 0)

    def min_iou(self, iou: np.ndarray) -> np.ndarray:
        """The lower of ``iou`` (of the whole regions, detectron2's rule) and :meth:`iou`; NaN where either is."""
        return np.minimum(iou, self.iou())


@dataclass
class BoundaryRegions:
    """Intersection and union of each class's boundaries, int64. Pixels that the truth ignores do not count."""

    num_classes: int
    ignore: int = IGNORE
    intersection: np.ndarray = field(init=False)
    union: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        _check_classes(self.num_classes)
        self.intersection = np.zeros(self.num_classes, dtype=np.int64)
        self.union = np.zeros(self.num_classes, dtype=np.int64)

    def add(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Add one image: H x W integers from 0, ``ignore`` as in ``Confusion.add``."""
        _check_shapes(prediction, truth)
        for values in (truth, prediction):
            _numbers(values, self.num_classes, self.ignore)
        width, valid = boundary_width(truth.shape), truth != self.ignore
        for number in np.union1d(np.unique(truth[valid]), np.unique(prediction[valid])).tolist():
            if number == self.ignore:
                continue
            true, predicted = (_boundary(values == number, width) & valid for values in (truth, prediction))
            self.intersection[number] += int((true & predicted).sum())
            self.union[number] += int((true | predicted).sum())

    def merge(self, other: BoundaryRegions) -> BoundaryRegions:
        """Add the images of another; returns self."""
        if (self.num_classes, self.ignore) != (other.num_classes, other.ignore):
            raise InputError(f"{other.num_classes} classes cannot be merged into {self.num_classes}; use one list")
        self.intersection += other.intersection
        self.union += other.union
        return self

    def iou(self) -> np.ndarray:
        """Of each class, 0..1; NaN for classes in neither truth nor prediction."""
        blank = np.full(self.num_classes, np.nan)
        return np.divide(self.intersection, self.union, out=blank, where=self.union > 0)


def _boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a mask within ``width`` of its edge; the edge of the image is one."""
    return mask & (eroded(mask.astype(np.uint8), width) == 0)


def _numbers(values: np.ndarray, classes: int, ignore: int) -> np.ndarray:
    """uint8, ``classes`` in the place of ``ignore``."""
    numbers = np.where(values == ignore, classes, values.astype(np.int64))
    if ((numbers < 0) | (numbers > classes)).any():
        outside = numbers[(numbers < 0) | (numbers > classes)]
        raise InputError(
            f"labels hold the value {outside[0]}; with {classes} classes give 0 to {classes - 1}, {ignore}"
        )
    return numbers.astype(np.uint8)


def _check_classes(classes: int) -> None:
    if not 1 <= classes <= MOST_CLASSES:
        raise InputError(f"boundaries of {classes} classes; give 1 to {MOST_CLASSES}")


def _check_shapes(prediction: np.ndarray, truth: np.ndarray) -> None:
    if prediction.shape != truth.shape:
        raise InputError(f"prediction has shape {prediction.shape}, truth {truth.shape}; resize the prediction")
