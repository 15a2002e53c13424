"""A policy's text read against its ground truth, once for all terms."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from scipy.optimize import linear_sum_assignment

from seg_zero.answer import Answer, parse_answer, parse_solution
from seg_zero.objects import PromptObject
from seg_zero.rewards.geometry import pairwise_distance, pairwise_iou

# The published thresholds are pixels of an 840 x 840 image; ours are the same fractions of any side.
PUBLISHED_SIDE = 840
BOX_PIXELS = 10.0
# The published point thresholds: one point per object, and two points of which either may come first.
ONE_POINT_PIXELS, TWO_POINTS_PIXELS = 30.0, 100.0
# The farthest that corners and points may be off, as fractions of the smaller side of the true object.
BOX_SIDE, POINT_SIDE = 0.1, 0.25
# Of the same side: the largest distance that can be set, and where a soft one is worth nothing, whatever the pixels.
LARGEST_SIDE = 0.5
# Farther points are no inner points, however large the object; only where there is no mask to tell.
INNER_PIXELS = 100.0
_ROUNDING = 1  # pixels by which rounding may have moved a true point out of its mask or box

_NOTHING = (math.nan,) * 4


@dataclass(frozen=True)
class Response:
    """What a reward term may look at.

    text: whatever the policy wrote. ground_truth: tag string (one object) or JSON string (any number), in
    pixels of the image that the policy saw, whose (width, height) is ``image_size``; the answer's
    coordinates are pixels of it too. mask_iou: IoU of SAM2's mask for the answer with the true mask; 1 for a
    correct empty answer, 0 where only one of the two has objects; None if no term needs it or SAM2 gave no mask.
    true_mask: the true objects' pixels, boolean, H x W, stretched over the image that the policy saw; None if unknown.
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
    true_mask: np.ndarray | None = field(default=None, repr=False, compare=False)

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

    iou: 0..1. area: of the predicted box, over that of the true one. box_l1, distance: pixels of an image of 840 x 840,
    infinite where a box or a point is missing. inside: the predicted points lie in their own predicted box. within:
    they lie in the true box and, if that is known, in the true mask. side: smaller side of the true box, and reach:
    published distance threshold, which depends on whether the truth has one or two points; in pixels like distance.
    """

    iou: np.ndarray
    area: np.ndarray
    box_l1: np.ndarray
    distance: np.ndarray
    inside: np.ndarray
    within: np.ndarray
    side: np.ndarray
    reach: np.ndarray


def capped_by_side(side: np.ndarray, pixels: np.ndarray | float = BOX_PIXELS, of_side: float = BOX_SIDE) -> np.ndarray:
    """A distance allowed: ``pixels``, and no more than a fraction of the object's smaller side."""
    return np.minimum(pixels, of_side * side)


def point_hits(pairs: Pairs, has_mask: bool) -> np.ndarray:
    """Whether the points lie in the true mask; without one, in the true box and near the true point."""
    if has_mask:
        return pairs.within
    return pairs.within & (pairs.distance < capped_by_side(pairs.side, INNER_PIXELS, POINT_SIDE))


def match(response: Response) -> Pairs:
    """One-to-one assignment of predicted to true objects that maximises IoU plus box and point hits."""
    predicted = response.answer.objects
    sx, sy = (PUBLISHED_SIDE / side for side in response.image_size)
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
        low, high = true_boxes[:, None, :2] - _ROUNDING, true_boxes[:, None, 2:] + _ROUNDING
        within = np.asarray(((points[:, None] >= low) & (points[:, None] <= high)).all(axis=(2, 3)))
        area = _areas(boxes)[:, None] / _areas(true_boxes)
    if response.true_mask is not None:
        within &= _in_mask(points, response.true_mask, response.image_size)[:, None]
    side = _sides(true_boxes, scale, response)
    every = Pairs(iou, area, box_l1, distance, inside[:, None], within, side, reach)
    hits = point_hits(every, response.true_mask is not None) & inside[:, None]
    rows, columns = linear_sum_assignment(iou + (box_l1 < capped_by_side(side)) + hits, maximize=True)
    of_pair = (rows, columns)
    return Pairs(
        iou[of_pair],
        area[of_pair],
        box_l1[of_pair],
        distance[of_pair],
        inside[rows],
        within[of_pair],
        side[columns],
        reach[columns],
    )


def _sides(boxes: np.ndarray, scale: np.ndarray, response: Response) -> np.ndarray:
    """Smaller sides of the true boxes, M; with a mask no more than the mean thickness of the object.

    That is the mask's pixels in the box over the box's longer side: a cord across a large box is a thin object.
    """
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    smaller = (sides * scale).min(axis=1)
    if response.true_mask is None:
        return np.asarray(smaller)
    height, width = response.true_mask.shape
    to_mask = np.array([width, height] * 2) / (*response.image_size, *response.image_size)
    corners = np.maximum(np.floor(boxes * to_mask), 0).astype(int)
    pixels = np.array([np.count_nonzero(response.true_mask[y1 : y2 + 1, x1 : x2 + 1]) for x1, y1, x2, y2 in corners])
    area = pixels * PUBLISHED_SIDE**2 / (width * height)
    return np.minimum(smaller, np.maximum(area / (sides * scale).max(axis=1), scale.min()))


def _areas(boxes: np.ndarray) -> np.ndarray:
    """Pixels of boxes whose corner pixels both count; NaN where a box is missing."""
    return np.asarray((np.abs(boxes[:, 2:] - boxes[:, :2]) + 1).prod(axis=1))


def _in_mask(points: np.ndarray, mask: np.ndarray, image_size: tuple[float, float]) -> np.ndarray:
    """Whether both points (N x 2 x 2) lie in the mask or touch it, N."""
    height, width = mask.shape
    pixels = np.floor(points * np.array([width / image_size[0], height / image_size[1]]))
    found = np.zeros(pixels.shape[:2], dtype=bool)
    for place, (x, y) in zip(np.ndindex(found.shape), pixels.reshape(-1, 2), strict=True):
        if -_ROUNDING <= x < width + _ROUNDING and -_ROUNDING <= y < height + _ROUNDING:  # also False for NaN
            left, top = max(int(x) - _ROUNDING, 0), max(int(y) - _ROUNDING, 0)
            found[place] = mask[top : int(y) + _ROUNDING + 1, left : int(x) + _ROUNDING + 1].any()
    return np.asarray(found.all(axis=1))


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


def falling(values: np.ndarray, full: np.ndarray | float, zero: np.ndarray | float | None) -> np.ndarray:
    """1 below ``full``; beyond it 0, or falling linearly to 0 at ``zero`` if that is given."""
    if zero is None:
        return values < full
    return np.clip((zero - values) / np.maximum(zero - full, 1e-9), 0.0, 1.0)
