"""A policy's text read against its ground truth, once for all terms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import linear_sum_assignment

from rewards.geometry import box_iou_inclusive, pairwise_distance, pairwise_iou_inclusive, pairwise_l1
from seg_zero.answer import Answer, PromptObject, parse_answer, parse_solution

# The published thresholds are pixels of an 840 x 840 image; ours are the same shares of any side.
PUBLISHED_SIDE = 840
BOX_PIXELS = 10.0
# The published point thresholds: one point per object, and two points of which either may come first.
ONE_POINT_PIXELS, TWO_POINTS_PIXELS = 30.0, 100.0


@dataclass(frozen=True)
class Response:
    """What a reward term may look at.

    text: whatever the policy wrote. ground_truth: tag string (one object) or JSON string (any number), in
    pixels of the image that the policy saw, whose (width, height) is ``image_size``; the answer's
    coordinates are pixels of it too. mask_iou: IoU of SAM2's mask for the answer with the true mask, None
    if nobody asked SAM2.
    """

    text: str
    ground_truth: str
    image_size: tuple[float, float]
    mask_iou: float | None = None

    @cached_property
    def answer(self) -> Answer:
        """The text, read; never raises."""
        return parse_answer(self.text)

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
    sx, sy = (PUBLISHED_SIDE / side for side in response.image_size)
    predicted = [item.scaled(sx, sy) for item in response.answer.objects]
    truth = [item.scaled(sx, sy) for item in response.truth]
    # Intersections count corner pixels (+1), which are pixels of the real image: IoU is taken unscaled.
    if len(predicted) == len(truth) == 1:
        iou = _iou(response.answer.objects[0], response.truth[0])
        return Pairs(*(np.array([v]) for v in (iou, *_compare(predicted[0], truth[0]))))
    boxes, points = _arrays(response.answer.objects)
    true_boxes, true_points = _arrays(response.truth)
    iou = np.nan_to_num(pairwise_iou_inclusive(boxes, true_boxes), nan=0.0, posinf=0.0, neginf=0.0).clip(0, 1)
    iou[(boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])] = 0.0
    scale = np.array([sx, sy, sx, sy])
    box_l1 = np.nan_to_num(pairwise_l1(boxes * scale, true_boxes * scale), nan=np.inf)
    distance = _point_distances(points * scale[:2], true_points * scale[:2], [len(o.points) == 1 for o in predicted])
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    inside = np.asarray(((points >= low) & (points <= high)).all(axis=(1, 2)))
    reach = np.array([TWO_POINTS_PIXELS if len(o.points) > 1 else ONE_POINT_PIXELS for o in truth])
    worth = iou + (box_l1 < BOX_PIXELS) + ((distance < reach) & inside[:, None])
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return Pairs(iou[rows, columns], box_l1[rows, columns], distance[rows, columns], inside[rows], reach[columns])


def _iou(item: PromptObject, truth: PromptObject) -> float:
    if item.box is None or truth.box is None or item.box[2] < item.box[0] or item.box[3] < item.box[1]:
        return 0.0
    return min(max(box_iou_inclusive(item.box, truth.box), 0.0), 1.0)


def _compare(item: PromptObject, truth: PromptObject) -> tuple[float, float, bool, float]:
    """box_l1, distance, inside and reach of one pair: what the arrays hold, without their overhead."""
    reach = TWO_POINTS_PIXELS if len(truth.points) > 1 else ONE_POINT_PIXELS
    box_l1 = math.inf
    if item.box is not None and truth.box is not None:
        box_l1 = sum(abs(a - b) for a, b in zip(item.box, truth.box, strict=True)) / 4
    box = item.box
    inside = box is not None and all(box[0] <= x <= box[2] and box[1] <= y <= box[3] for x, y in item.points)
    if not item.points or not truth.points:
        return box_l1, math.inf, inside and bool(item.points), reach
    (p, q), (s, t) = (item.points[0], item.points[-1]), (truth.points[0], truth.points[-1])
    straight, crossed = math.dist(p, s) + math.dist(q, t), math.dist(p, t) + math.dist(q, s)
    distance = min(math.dist(p, s), math.dist(p, t)) if len(item.points) == 1 else min(straight, crossed) / 2
    return box_l1, distance, inside, reach


def _arrays(objects: tuple[PromptObject, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes N x 4 and points N x 2 x 2, a lone point doubled, NaN where missing."""
    nothing = (math.nan,) * 4
    boxes = [o.box or nothing for o in objects]
    points = [(o.points[0], o.points[-1]) if o.points else (nothing[:2], nothing[:2]) for o in objects]
    return np.array(boxes, dtype=float).reshape(-1, 4), np.array(points, dtype=float).reshape(-1, 2, 2)


def _point_distances(points: np.ndarray, truth: np.ndarray, lone: list[bool]) -> np.ndarray:
    """N x M distances of point pairs: the better pairing; for a lone predicted point, the nearer true point."""
    first = pairwise_distance(points[:, 0], truth[:, 0])
    if (points[:, 0] == points[:, 1]).all() and (truth[:, 0] == truth[:, 1]).all():
        return np.nan_to_num(first, nan=np.inf)
    other = pairwise_distance(points[:, 0], truth[:, 1])
    straight = first + pairwise_distance(points[:, 1], truth[:, 1])
    crossed = other + pairwise_distance(points[:, 1], truth[:, 0])
    distance = np.where(np.array(lone)[:, None], np.minimum(first, other), np.minimum(straight, crossed) / 2)
    return np.nan_to_num(distance, nan=np.inf)


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
