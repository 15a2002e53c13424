"""A policy's text read against its ground truth, once for all terms."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from scipy.optimize import linear_sum_assignment

from seg_zero.answer import Answer, answer_span, parse_answer, parse_solution
from seg_zero.masks import touches_mask
from seg_zero.objects import Box, PromptObject
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

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_NOTHING = (math.nan,) * 4


@dataclass(frozen=True)
class Response:
    """What a reward term may look at.

    text: whatever the policy wrote. ground_truth: tag string (one object) or JSON string (any number), in
    pixels of the image that the policy saw, whose (width, height) is ``image_size``; the answer's
    coordinates are pixels of it too. mask_iou: IoU of SAM2's mask for the answer with the true mask; 1 for a
    correct empty answer, 0 where only one of the two has objects; None if no term needs it or SAM2 gave no mask.
    true_mask: the true objects' pixels, boolean, H x W, stretched over the image that the policy saw; None if unknown,
    in training also if no term declares that it needs it.
    question: what was asked; kind: the kind of question that the dataset states; both None if unknown. parsed:
    the answer in ``text`` if the caller has read it; otherwise it is read when a term first asks for it. referred: in a
    dialogue, the boxes in the prompt of the earlier answers that the question refers to.
    """

    text: str
    ground_truth: str
    image_size: tuple[float, float]
    mask_iou: float | None = None
    question: str | None = None
    kind: str | None = None
    parsed: Answer | None = field(default=None, repr=False, compare=False)
    true_mask: np.ndarray | None = field(default=None, repr=False, compare=False)
    referred: tuple[Box, ...] = ()

    @cached_property
    def answer(self) -> Answer:
        """The text, read; never raises."""
        return parse_answer(self.text) if self.parsed is None else self.parsed

    @cached_property
    def reasoning(self) -> str:
        """The text outside the answer block, each tag replaced by a line break."""
        span = answer_span(self.text)
        outside = self.text if span is None else self.text[: span[0]] + "\n" + self.text[span[1] :]
        for tag in TAGS:
            outside = outside.replace(tag, "\n")
        return outside

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
    return _hits(pairs.within, pairs.distance, pairs.side, has_mask)


def _hits(within: np.ndarray, distance: np.ndarray, side: np.ndarray, has_mask: bool) -> np.ndarray:
    return within if has_mask else within & (distance < capped_by_side(side, INNER_PIXELS, POINT_SIDE))


def match(response: Response) -> Pairs:
    """One-to-one assignment of predicted to true objects that maximises IoU plus box and point hits."""
    boxes, points, lone = _arrays(response.answer.objects)
    true, mask = _truth(response.ground_truth, response.image_size), response.true_mask
    gaps = np.abs(boxes[:, :, None] - true.boxes[:, None])
    box_l1 = (true.scale / 4 @ gaps.reshape(4, -1)).reshape(gaps.shape[1:])
    distance = _point_distances(points * true.scale[:2, None], lone, true)
    iou = pairwise_iou(boxes.T, true.boxes.T)
    upright = boxes[2:] >= boxes[:2]  # also False for NaN
    if not (true.regular and upright.all() and not np.isnan(points[0, 0]).any()):
        box_l1, distance = (np.where(np.isnan(values), np.inf, values) for values in (box_l1, distance))
        iou = np.where((iou > 0) & np.asarray(upright.all(axis=0))[:, None], np.minimum(iou, 1.0), 0.0)
    seen = points[:1] if lone.all() else points  # of two that are one, one
    inside = _of_points((seen >= boxes[:2]) & (seen <= boxes[2:]))
    within = _of_points((seen[..., None] >= true.low) & (seen[..., None] <= true.high))
    side = true.side
    if mask is not None:
        within &= _on_mask(seen, mask, response.image_size)[:, None]
        side = _thickness(true, mask, response.image_size)
    hits = _hits(within, distance, side, mask is not None) & inside[:, None]
    rows, columns = linear_sum_assignment(iou + (box_l1 < capped_by_side(side)) + hits, maximize=True)
    of_pair = rows * len(side) + columns
    return Pairs(
        iou.take(of_pair),
        _areas(boxes).take(rows) / true.area.take(columns),
        box_l1.take(of_pair),
        distance.take(of_pair),
        inside.take(rows),
        within.take(of_pair),
        side.take(columns),
        true.reach.take(columns),
    )


# Arrays have the coordinates first: numpy is several times as fast along a long last axis as along one of 2 or 4.


@dataclass(frozen=True)
class _Truth:
    """What all answers to a question are compared with: M objects.

    boxes: 4 x M. points: which of two, axis, object, in pixels of an image of 840 x 840 (2 x 2 x M); lone: all are the
    same twice. scale: how many such pixels a pixel is, for the 4 coordinates of a box; side, extent: smaller and larger
    sides of the boxes in such pixels. low, high: corners moved out by the rounding, 2 x 1 x M. area: pixels. regular:
    no point is missing and no box has its corners swapped. reach: see :class:`Pairs`.
    """

    boxes: np.ndarray
    points: np.ndarray
    lone: bool
    scale: np.ndarray
    side: np.ndarray
    extent: np.ndarray
    low: np.ndarray
    high: np.ndarray
    area: np.ndarray
    regular: bool
    reach: np.ndarray


@lru_cache(maxsize=1024)
def _truth(ground_truth: str, image_size: tuple[float, float]) -> _Truth:
    objects = parse_solution(ground_truth)
    boxes, points, lone = _arrays(objects)
    scale = np.array([PUBLISHED_SIDE / side for side in image_size] * 2)
    sides = np.maximum(boxes[2:] - boxes[:2], 1) * scale[:2, None]
    return _Truth(
        boxes,
        points * scale[:2, None],
        bool(lone.all()),
        scale,
        sides.min(axis=0),
        sides.max(axis=0),
        boxes[:2, None] - _ROUNDING,
        boxes[2:, None] + _ROUNDING,
        _areas(boxes),
        bool((boxes[2:] >= boxes[:2]).all() and not np.isnan(points).any()),
        np.array([TWO_POINTS_PIXELS if len(o.points) > 1 else ONE_POINT_PIXELS for o in objects]),
    )


def _arrays(objects: tuple[PromptObject, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes 4 x N, points 2 x 2 x N (a lone one twice), and whether an object has one point at most; NaN if missing."""
    found: list[float] = []
    for item in objects:
        found += item.box or _NOTHING
        found += item.points[0] + item.points[-1] if item.points else _NOTHING
    values = np.fromiter(found, float, len(found)).reshape(-1, 8).T.copy()
    return values[:4], values[4:].reshape(2, 2, -1), np.array([len(item.points) < 2 for item in objects])


def _areas(boxes: np.ndarray) -> np.ndarray:
    """Pixels of boxes whose corner pixels both count; NaN where a box is missing."""
    width, height = np.abs(boxes[2:] - boxes[:2]) + 1
    return np.asarray(width * height)


def _thickness(true: _Truth, mask: np.ndarray, image_size: tuple[float, float]) -> np.ndarray:
    """Smaller sides of the true boxes, M, or the mean thickness of the objects if that is less.

    That is the mask's pixels in the box over the box's longer side: a cord across a large box is a thin object.
    """
    height, width = mask.shape
    to_mask = np.array([width, height] * 2) / (*image_size, *image_size)
    corners = np.maximum(np.floor(true.boxes.T * to_mask), 0).astype(int)
    pixels = np.array([np.count_nonzero(mask[y1 : y2 + 1, x1 : x2 + 1]) for x1, y1, x2, y2 in corners])
    area = pixels * PUBLISHED_SIDE**2 / (width * height)
    return np.minimum(true.side, np.maximum(area / true.extent, true.scale.min()))


def _on_mask(points: np.ndarray, mask: np.ndarray, image_size: tuple[float, float]) -> np.ndarray:
    """Whether all points of an object (P x 2 x N) lie in the mask or touch it, N."""
    to_mask = np.array([[mask.shape[1] / image_size[0]], [mask.shape[0] / image_size[1]]])
    of_object = (points * to_mask).transpose(2, 0, 1).tolist()
    return np.array([all(touches_mask(x, y, mask, _ROUNDING) for x, y in found) for found in of_object])


def _of_points(found: np.ndarray) -> np.ndarray:
    """Whether both coordinates of all points (P x 2 x ...) have it."""
    both = found[:, 0] & found[:, 1]
    return np.asarray(both[0] if len(both) == 1 else both[0] & both[1])


def _point_distances(points: np.ndarray, lone: np.ndarray, true: _Truth) -> np.ndarray:
    """N x M distances: the better pairing of two points; for a lone predicted point, the nearer true one."""
    (p, q), (u, v) = points.transpose(0, 2, 1), true.points.transpose(0, 2, 1)
    first = pairwise_distance(p, u)
    if true.lone and lone.all():
        return first
    other = pairwise_distance(p, v)
    straight, crossed = first + pairwise_distance(q, v), other + pairwise_distance(q, u)
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
