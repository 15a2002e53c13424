"""Mask metrics by three published rules: pure functions of numpy arrays, no torch.

    evaluate_masks(predictions, truths)                 # {"gIoU": ..., "cIoU": ..., "count": ...}
    evaluate_masks(predictions, truths, rule="gres")    # with N-acc, T-acc and Pr@X

Predictions and truths may be generators: one row is in memory at a time. What each rule counts is in the
docstring of its class, and side by side in docs/metrics.md. Intervals and tests are in
:mod:`seg_zero.statistics`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import zip_longest
from typing import Any, ClassVar, TypeVar

import numpy as np

from seg_zero.errors import InputError

IGNORE = 255
PRECISION_THRESHOLDS = (0.7, 0.8, 0.9)
GRES_FRACTIONS = ("N-acc", "T-acc", *(f"Pr@{threshold}" for threshold in PRECISION_THRESHOLDS))

# An IoU is at least 2**-62 (one pixel of any array) or 0, and a float has 53 bits, so every IoU is a whole
# number of 2**-128. Sums of whole numbers are exact: neither the order of rows nor their shards can matter.
_IOU_UNITS = 1 << 128

Sums = TypeVar("Sums", bound="_IouSums")


@dataclass(frozen=True)
class MaskCounts:
    """Pixels of one row; every rule scores from these, so it can be stored and scored later.

    prediction, truth, intersection: without the pixels whose truth is 255. ignored: those pixels;
    ignored_prediction: how many of them are predicted. answered: False if there is no prediction (the answer
    could not be read, or the segmentation failed): the row scores 0, even if its truth is empty.
    """

    intersection: int = 0
    prediction: int = 0
    truth: int = 0
    ignored: int = 0
    ignored_prediction: int = 0
    answered: bool = True

    @property
    def union(self) -> int:
        return self.prediction + self.truth - self.intersection


def count_pixels(prediction: np.ndarray | None, truth: np.ndarray) -> MaskCounts:
    """The pixels of one row.

    prediction: H x W, boolean or 0/1; None if there is none. truth: H x W, boolean or 0, 1 and 255
    (ignore). Raises InputError for other shapes and values.
    """
    positive, ignored = _positive(_mask("truth", truth))
    outside = 0 if ignored is None else int(np.count_nonzero(ignored))
    if prediction is None:
        return MaskCounts(truth=int(np.count_nonzero(positive)), ignored=outside, answered=False)
    prediction = _mask("prediction", prediction)
    if prediction.shape != positive.shape:
        raise InputError(f"prediction has shape {prediction.shape}, truth {positive.shape}; resize the prediction")
    predicted = prediction if prediction.dtype == bool else prediction != 0
    if prediction.dtype != bool and not np.array_equal(predicted, prediction):
        value = prediction[predicted != prediction].flat[0]
        raise InputError(f"prediction holds the value {value}; give booleans or 0 and 1 (threshold it first)")
    among = int(np.count_nonzero(predicted & ignored)) if outside else 0
    return MaskCounts(
        intersection=int(np.count_nonzero(predicted & positive)),
        prediction=int(np.count_nonzero(predicted)) - among,
        truth=int(np.count_nonzero(positive)),
        ignored=outside,
        ignored_prediction=among,
    )


def intersection_union(prediction: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Pixels in both masks and in either one, without those whose truth is 255; arguments of :func:`count_pixels`."""
    counts = count_pixels(prediction, truth)
    return counts.intersection, counts.union


def iou_of(intersection: int, union: int) -> float:
    """Intersection over union; 1 where truth and prediction are both empty (LISA)."""
    return intersection / union if union else 1.0


@dataclass
class _IouSums:
    """What every rule adds up. Constant memory; ``merge`` of shards equals one pass over all rows exactly."""

    EMPTY: ClassVar[float] = 1.0  # the score of an empty union

    count: int = 0
    intersection: int = 0
    union: int = 0
    iou_units: int = 0

    def _record(self, intersection: int, union: int, answered: bool = True) -> float:
        iou = intersection / union if union else self.EMPTY * answered
        self.count += 1
        self.intersection += intersection
        self.union += union
        self.iou_units += int(iou * _IOU_UNITS)
        return iou

    def merge(self: Sums, other: Sums) -> Sums:
        """Add the rows of ``other``, a shard counted by the same rule, to these; returns self."""
        if type(self) is not type(other):
            raise InputError(f"{type(other).__name__} cannot be merged into {type(self).__name__}; use one rule")
        for entry in fields(self):
            setattr(self, entry.name, getattr(self, entry.name) + getattr(other, entry.name))
        return self

    @property
    def giou(self) -> float:
        """Mean of the rows' IoU, 0..1; 0.0 before the first row."""
        return self.iou_units / (self.count * _IOU_UNITS) if self.count else 0.0

    @property
    def ciou(self) -> float:
        """Sum of the intersections over the sum of the unions, 0..1; 0.0 before the first row."""
        if self.union:
            return self.intersection / self.union
        return self.EMPTY if self.count else 0.0

    def result(self) -> dict[str, float]:
        """``gIoU``, ``cIoU`` (0..1) and ``count``, the rows in the mean. Raises InputError without a row."""
        if not self.count:
            raise InputError("there is no row to score; give at least one prediction and its truth")
        return {"gIoU": self.giou, "cIoU": self.ciou, "count": self.count}


@dataclass
class MaskMetrics(_IouSums):
    """Rule ``lisa``, the default: the rules of LISA (arXiv 2308.00692, and ``validate`` in its code).

    Pixels whose truth is 255 are removed from both masks. gIoU is the mean over expressions of I/U, 1.0
    when truth and prediction are both empty; cIoU is the sum of I over the sum of U, 1.0 if that is empty.
    No row is dropped: one without a prediction (None) scores 0 and adds its truth to the union. LISA's code
    adds 1e-5 to each union, against division by zero; here the ratio is exact.
    """

    def add(self, prediction: np.ndarray | None, truth: np.ndarray) -> float:
        """Add one expression and return its IoU; arguments of :func:`count_pixels`."""
        return self.add_counts(count_pixels(prediction, truth))

    def add_counts(self, counts: MaskCounts) -> float:
        """Add one expression by its pixels and return its IoU."""
        return self._record(counts.intersection, counts.union, counts.answered)


def gres_hits(counts: MaskCounts) -> dict[str, bool]:
    """Whether one row is a hit in each of GRES's fractions that it counts in (see :class:`GresMetrics`)."""
    if not counts.truth:
        return {"N-acc": counts.prediction == 0 and counts.answered}
    iou = counts.intersection / counts.union
    return {"T-acc": counts.prediction > 0, **{f"Pr@{least}": iou >= least for least in PRECISION_THRESHOLDS}}


@dataclass
class GresMetrics(MaskMetrics):
    """Rule ``gres``: that of gRefCOCO (arXiv 2306.00968, and ``refer_evaluation.py`` of its code, ReLA).

    A row without a target (an empty truth) scores 1 in gIoU if the prediction is empty, otherwise 0; in
    cIoU it adds its predicted pixels to the union. A row with a target counts as in LISA. So gIoU and
    cIoU equal those of ``lisa``; the rule adds fractions of the rows with or without a target:

    * N-acc: rows without a target whose prediction is empty, of all rows without a target
    * T-acc: rows with a target whose prediction is not empty, of all rows with a target
    * Pr@X: rows with a target whose IoU is X or more, of all rows with a target

    "Empty" means no pixel at all. The official evaluation has no minimum area either, but uses the model's
    no-target head; here an empty answer plays that role. A missing answer (None) does not count as empty.
    """

    rows: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)

    def add_counts(self, counts: MaskCounts) -> float:
        for name, hit in gres_hits(counts).items():
            self.rows[name] += 1
            self.hits[name] += hit
        return super().add_counts(counts)

    def result(self) -> dict[str, float]:
        """As with LISA, and ``N-acc``, ``T-acc``, ``Pr@0.7``, ``Pr@0.8``, ``Pr@0.9`` (0..1).

        A fraction over no rows has no value, so its key is omitted.
        """
        fractions = {name: self.hits[name] / self.rows[name] for name in GRES_FRACTIONS if self.rows[name]}
        return {**super().result(), **fractions}


@dataclass
class SegZeroMetrics(_IouSums):
    """Rule ``seg_zero``: that of the evaluation code published with Seg-Zero and VisionReasoner.

    For comparing with published numbers only. 255 is foreground; an empty union scores 0, in a row and in
    cIoU (``calculate_iou.py``); a row whose segmentation failed (None) is skipped, and only counted in
    ``skipped``. An answer that cannot be read is not a failed segmentation: the published code counts it
    as an empty mask, so pass one.
    """

    EMPTY: ClassVar[float] = 0.0

    skipped: int = 0

    def add(self, prediction: np.ndarray | None, truth: np.ndarray) -> float | None:
        """Add one expression and return its IoU; None if it is skipped, which a prediction None is."""
        return self.add_counts(None if prediction is None else count_pixels(prediction, truth))

    def add_counts(self, counts: MaskCounts | None) -> float | None:
        """Add one expression by its pixels (None: its segmentation failed) and return its IoU, None if skipped."""
        if counts is None:
            self.skipped += 1
            return None
        return self._record(counts.intersection + counts.ignored_prediction, counts.union + counts.ignored)

    def result(self) -> dict[str, float]:
        if self.skipped and not self.count:
            raise InputError(f"all {self.skipped} rows failed and rule 'seg_zero' skips such; use rule 'lisa'")
        return super().result()


Metrics = MaskMetrics | GresMetrics | SegZeroMetrics
RULES: dict[str, type[Metrics]] = {"lisa": MaskMetrics, "gres": GresMetrics, "seg_zero": SegZeroMetrics}


def metrics_for(rule: str) -> Metrics:
    """An empty accumulator of a rule: ``add`` rows, ``merge`` shards, read ``result()``."""
    if rule not in RULES:
        raise InputError(f"there is no rule {rule!r} for mask metrics; use one of {', '.join(RULES)}")
    return RULES[rule]()


def evaluate_masks(
    predictions: Iterable[np.ndarray | None], truths: Iterable[np.ndarray], rule: str = "lisa"
) -> dict[str, float]:
    """Metrics of paired masks by one rule, in one pass.

    predictions: H x W, boolean or 0/1; None where the answer could not be read or segmentation failed,
    which scores 0 (rule ``seg_zero`` skips such rows). truths: H x W, boolean or 0, 1 and 255
    (ignore). rule: ``lisa``, ``gres`` or ``seg_zero``. Returns ``gIoU``, ``cIoU`` (0..1), ``count``, the
    rows in the mean, and what :class:`GresMetrics` adds. Raises InputError, naming the row, for masks that
    do not fit, for unequal numbers of them, and without any.
    """
    metrics = metrics_for(rule)
    end = object()
    pairs: Iterable[tuple[Any, Any]] = zip_longest(predictions, truths, fillvalue=end)
    for row, (prediction, truth) in enumerate(pairs):
        if prediction is end or truth is end:
            short, long = ("predictions", "truths") if prediction is end else ("truths", "predictions")
            raise InputError(f"{short} end after {row} rows, {long} go on; give one of each (None for a failed one)")
        try:
            metrics.add(prediction, truth)
        except InputError as error:
            raise InputError(f"row {row}: {error}") from error
    return metrics.result()


def box_accuracy(
    pred_boxes: Sequence[Sequence[float] | None] | np.ndarray,
    true_boxes: Sequence[Sequence[float]] | np.ndarray,
    threshold: float = 0.5,
) -> float:
    """Fraction of the rows whose predicted box has an IoU above ``threshold`` with the true one.

    Boxes are (x1, y1, x2, y2) of pixels, both corners inside (a box of one pixel has x1 = x2). A missing
    box (None) or one with its corners swapped is a miss. Above, not at: as in the published rewards.
    """
    if len(pred_boxes) != len(true_boxes) or not len(true_boxes):
        raise InputError(f"{len(pred_boxes)} predicted and {len(true_boxes)} true boxes; give one of each per row")
    nothing = (0.0, 0.0, -1.0, -1.0)
    found = _numbers("predicted boxes", [nothing if box is None else box for box in pred_boxes], 4)
    true = _numbers("true boxes", true_boxes, 4)
    upright = (found[:, 2:] >= found[:, :2]).all(axis=1)
    if not (true[:, 2:] >= true[:, :2]).all():
        raise InputError("a true box has x2 < x1 or y2 < y1; write boxes as x1, y1, x2, y2")
    overlap = np.minimum(found[:, 2:], true[:, 2:]) - np.maximum(found[:, :2], true[:, :2]) + 1
    both = np.where(upright, overlap.clip(min=0).prod(axis=1), 0.0)
    area = np.where(upright, (found[:, 2:] - found[:, :2] + 1).prod(axis=1), 0.0)
    union = area + (true[:, 2:] - true[:, :2] + 1).prod(axis=1) - both
    return float(np.mean(both / union > threshold))


def point_in_mask(points: Sequence[Sequence[float]] | np.ndarray, truth: np.ndarray) -> float:
    """Fraction of the points (x, y in pixels) that lie on the truth, H x W, boolean or 0, 1 and 255.

    A point belongs to the pixel that it lies in, (int(x), int(y)). Ignored pixels (255) are not the truth,
    nor is anything outside of the image.
    """
    positive = _positive(_mask("truth", truth))[0]
    if not len(points):
        raise InputError("the fraction of no points has no value; give at least one point")
    x, y = np.floor(_numbers("points", points, 2)).astype(np.int64).T
    height, width = positive.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return float(np.mean(inside & positive[y.clip(0, height - 1), x.clip(0, width - 1)]))


def _positive(truth: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Where the truth is 1, and where it is 255 (None if it is boolean)."""
    if truth.dtype == bool:
        return truth, None
    positive, ignored = truth == 1, truth == IGNORE
    if (positive | ignored | (truth == 0)).all():
        return positive, ignored
    value = truth[~(positive | ignored | (truth == 0))].flat[0]
    raise InputError(f"truth holds the value {value}; give 0, 1 and 255 (ignore), or booleans")


def _mask(name: str, array: np.ndarray) -> np.ndarray:
    if array is None:
        raise InputError(f"{name} is None; give an H x W array")
    array = np.asarray(array)
    if array.ndim != 2 or not array.size:
        raise InputError(f"{name} has shape {array.shape}; give an H x W array")
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} holds {array.dtype}; give booleans or numbers")
    return array


def _numbers(name: str, rows: Sequence[Sequence[float]] | np.ndarray, columns: int) -> np.ndarray:
    try:
        array = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} are not all {columns} numbers; correct them") from error
    if array.ndim != 2 or array.shape[1] != columns or not np.isfinite(array).all():
        raise InputError(f"{name} are not all {columns} finite numbers; correct them")
    return array
