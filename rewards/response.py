"""A policy's text read against its ground truth, once for all terms."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from scipy.optimize import linear_sum_assignment

from seg_zero.answer import Answer, parse_answer, parse_solution
from seg_zero.objects import Point, PromptObject
from seg_zero.rewards.geometry import box_iou, pairwise_distance, pairwise_iou

# The published thresholds are pixels of an 840 x 840 image; ours are the same fractions of any side.
PUBLISHED_SIDE = 840
BOX_PIXELS = 10.0
# The published point thresholds: one point per object, and two points of which either may come first.
ONE_POINT_PIXELS, TWO_POINTS_PIXELS = 30.0, 100.0

_NOTHING = (math.nan,) * 4


@dataclass(frozen=True)
class Response:
    """What a reward term may look at.

    text: whatever the policy wrote. ground_truth: tag string (one object) or JSON string (any number), in
    pixels of the image that the policy saw, whose (width, height) is ``image_size``; the answer's
    coordinates are pixels of it too. mask_iou: IoU of SAM2's mask for the answer with the true mask; 1 for a
    correct empty answer, 0 where only one of the two has objects; None if no term needs it or SAM2 gave no mask.
    question: what was asked; kind: the kind of question that the dataset states; both None if unknown. parsed:
    the answer in ``text`` if the caller has read it; otherwise it is read when a term first asks for it.
    """

    text: str
    ground_truth: str
    image_size: tuple[float, float]
    mask_iou: float | None = None
    question: str | None = None
    kind: str | None = None
    parsed: Answer | None = field(default=None, repr=False, compare=False)

    @cached_property
    def answer(self) -> Answer:
        """The text, read; never raises."""
        return parse_answer(self.text) if self.parsed is None else self.parsed

    @cached_property
    def truth(self) -> tuple[PromptObject, ...]:
        """The true objects. Raises ValueError if the ground truth is of neither format."""
        return parse_solution(self.ground_truth)

    @property
    def pairs_wanted(self) -> int:
        """What a sum over matched pairs is divided by: missing, extra and doubled objects all cost."""
        return max(len(self.answer.objects) + self.answer.left_out, len(self.truth))

    @property
    def rightly_empty(self) -> bool:
        """The answer says that nothing matches, and nothing does."""
        return not self.truth and not self.answer.objects and self.answer.problem is None

    @cached_property
    def pairs(self) -> Pairs:
        return match(self)


@dataclass(frozen=True)
class Pairs:
    """Values of the matched (prediction, truth) pairs, each an array of length min(N, M).

    iou: 0..1. box_l1, distance: pixels of an image of 840 x 840, infinite where a box or a point is missing.
    inside: the predicted points lie in their own predicted box. reach: published distance threshold, which
    depends on whether the truth has one or two points.
    """

    iou: np.ndarray
    box_l1: np.ndarray
    distance: np.ndarray
    inside: np.ndarray
    reach: np.ndarray


def match(response: Response) -> Pairs:
    """One-to-one assignment of predicted to true objects that maximises IoU plus box and point hits."""
    predicted, truth = response.answer.objects, response.truth
    sx, sy = (PUBLISHED_SIDE / side for side in response.image_size)
    if len(predicted) == len(truth) == 1:
        return Pairs(*(np.array([v]) for v in _compare(predicted[0], truth[0], sx, sy)))
    boxes, points = _arrays(predicted)
    true_boxes, true_points, reach = _truth_arrays(response.ground_truth)
    with np.errstate(invalid="ignore"):  # a missing box or point is NaN
        iou = pairwise_iou(boxes, true_boxes)
        right_way = np.asarray((boxes[:, 2:] >= boxes[:, :2]).all(axis=1))
        iou = np.where((iou > 0) & right_way[:, None], np.minimum(iou, 1.0), 0.0)
        box_l1 = _finite(np.abs(boxes[:, None] - true_boxes) @ np.array([sx / 4, sy / 4, sx / 4, sy / 4]))
        scale = np.array([sx, sy])
        distance = _finite(_point_distances(points * scale, true_points * scale, predicted))
        inside = np.asarray(((points >= boxes[:, None, :2]) & (points <= boxes[:, None, 2:])).all(axis=(1, 2)))
        worth = iou + (box_l1 < BOX_PIXELS) + ((distance < reach) & inside[:, None])
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return Pairs(iou[rows, columns], box_l1[rows, columns], distance[rows, columns], inside[rows], reach[columns])


@lru_cache(maxsize=1024)
def _truth_arrays(ground_truth: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, points and reach of the true objects; cached, since all answers to a question share them."""
    truth = parse_solution(ground_truth)
    reach = np.array([TWO_POINTS_PIXELS if len(o.points) > 1 else ONE_POINT_PIXELS for o in truth])
    return *_arrays(truth), reach


def _finite(values: np.ndarray) -> np.ndarray:
    missing = np.isnan(values)
    if missing.any():
        values[missing] = np.inf
    return values


def _compare(item: PromptObject, truth: PromptObject, sx: float, sy: float) -> tuple[float, float, float, bool, float]:
    """The fields of :class:`Pairs` for one pair, without the overhead of arrays."""
    box, true_box = item.box, truth.box
    iou, box_l1 = 0.0, math.inf
    if box is not None and true_box is not None:
        if box[2] >= box[0] and box[3] >= box[1]:
            iou = min(max(box_iou(box, true_box), 0.0), 1.0)
        off = [abs(a - b) for a, b in zip(box, true_box, strict=True)]
        box_l1 = (sx * (off[0] + off[2]) + sy * (off[1] + off[3])) / 4
    inside = box is not None and bool(item.points)
    inside = inside and all(box[0] <= x <= box[2] and box[1] <= y <= box[3] for x, y in item.points)  # type: ignore[index]
    reach = TWO_POINTS_PIXELS if len(truth.points) > 1 else ONE_POINT_PIXELS
    return iou, box_l1, _distance(item, truth, sx, sy), inside, reach


def _distance(item: PromptObject, truth: PromptObject, sx: float, sy: float) -> float:
    if not item.points or not truth.points:
        return math.inf

    def between(a: Point, b: Point) -> float:
        return math.hypot(sx * (a[0] - b[0]), sy * (a[1] - b[1]))

    (p, q), (s, t) = (item.points[0], item.points[-1]), (truth.points[0], truth.points[-1])
    if len(item.points) == 1:
        return min(between(p, s), between(p, t))
    return min(between(p, s) + between(q, t), between(p, t) + between(q, s)) / 2


def _arrays(objects: tuple[PromptObject, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes N x 4 and points N x 2 x 2, a lone point doubled, NaN where missing."""
    rows = [
        (
            *(o.box or _NOTHING),
            *(o.points[0] if o.points else _NOTHING[:2]),
            *(o.points[-1] if o.points else _NOTHING[:2]),
        )
        for o in objects
    ]
    values = np.array(rows, dtype=float)
    return values[:, :4], values[:, 4:].reshape(-1, 2, 2)


def _point_distances(points: np.ndarray, true_points: np.ndarray, predicted: tuple[PromptObject, ...]) -> np.ndarray:
    """N x M distances: the better pairing of two points; for a lone predicted point, the nearer true one."""
    first = pairwise_distance(points[:, 0], true_points[:, 0])
    if (points[:, 0] == points[:, 1]).all() and (true_points[:, 0] == true_points[:, 1]).all():
        return first
    other = pairwise_distance(points[:, 0], true_points[:, 1])
    straight = first + pairwise_distance(points[:, 1], true_points[:, 1])
    crossed = other + pairwise_distance(points[:, 1], true_points[:, 0])
    lone = np.array([len(o.points) == 1 for o in predicted])
    return np.where(lone[:, None], np.minimum(first, other), np.minimum(straight, crossed) / 2)


def mean_over_pairs(response: Response, values: np.ndarray | None) -> float:
    """Sum of the pairs' values over max(#predicted, #true).

    A correct empty answer is worth 1, an empty one that should not be, or an answer where nothing matches, 0.
    """
    if response.rightly_empty:
        return 1.0
    return 0.0 if values is None else float(values.sum()) / response.pairs_wanted


def comparable(response: Response) -> bool:
    """Whether there are objects on both sides, and so pairs."""
    return bool(response.answer.objects and response.truth)


def falling(values: np.ndarray, full: np.ndarray | float, zero: float | None) -> np.ndarray:
    """1 below ``full``; beyond it 0, or falling linearly to 0 at ``zero`` if that is given."""
    if zero is None:
        return values < full
    return np.clip((zero - values) / np.maximum(zero - full, 1e-9), 0.0, 1.0)
