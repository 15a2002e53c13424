"""Terms of the default reward: pure functions of one response read against its ground truth.

Every term is in 0..1. Thresholds are shares of the image side, so that a reward means the same at 112
and at 840 pixels: 10/840 for the box, 30/840 for the point (the published pixels at the published side).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import linear_sum_assignment

from rewards.geometry import pairwise_distance, pairwise_iou_inclusive, pairwise_l1
from seg_zero.answer import Answer, PromptObject, parse_answer, parse_solution

IOU_THRESHOLD = 0.5
BOX_L1_SHARE = 10 / 840
POINT_SHARE = 30 / 840

_SENTENCE = re.compile(r"[.!?\n]+")


@dataclass(frozen=True)
class Response:
    """A policy's text and its ground truth, read once for all terms.

    ``image_size`` is (width, height) in pixels of the image the policy saw; so are all coordinates.
    """

    text: str
    answer: Answer
    truth: tuple[PromptObject, ...]
    image_size: tuple[float, float]

    @classmethod
    def read(cls, prediction: str, ground_truth: str, image_size: tuple[float, float]) -> Response:
        return cls(prediction, parse_answer(prediction), parse_solution(ground_truth), image_size)

    @property
    def pairs_wanted(self) -> int:
        """What a sum over matched pairs is divided by: missing, extra and doubled objects all cost."""
        return max(len(self.answer.objects), len(self.truth))

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

    ``iou`` 0..1; ``box_l1`` and ``distance`` as shares of the image side; ``inside``: the predicted point
    lies in its own predicted box. Missing boxes have IoU 0 and infinite l1, missing points infinite distance.
    """

    iou: np.ndarray
    box_l1: np.ndarray
    distance: np.ndarray
    inside: np.ndarray


def _arrays(objects: tuple[PromptObject, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes N x 4 and first points N x 2, NaN where missing."""
    nothing = (np.nan,) * 4
    boxes = np.array([o.box if o.box is not None else nothing for o in objects], dtype=float).reshape(-1, 4)
    points = np.array([o.points[0] if o.points else nothing[:2] for o in objects], dtype=float).reshape(-1, 2)
    return boxes, points


def match(response: Response) -> Pairs:
    """One-to-one assignment of predicted to true objects that maximises IoU plus box and point hits."""
    width, height = response.image_size
    boxes, points = _arrays(response.answer.objects)
    true_boxes, true_points = _arrays(response.truth)
    iou = np.nan_to_num(pairwise_iou_inclusive(boxes, true_boxes), nan=0.0, posinf=0.0, neginf=0.0).clip(0, 1)
    wrong_way = (boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])
    iou[wrong_way] = 0.0
    scale_box, scale_point = np.array([width, height, width, height]), np.array([width, height])
    box_l1 = np.nan_to_num(pairwise_l1(boxes / scale_box, true_boxes / scale_box), nan=np.inf)
    distance = np.nan_to_num(pairwise_distance(points / scale_point, true_points / scale_point), nan=np.inf)
    inside = np.asarray(((points >= boxes[:, :2]) & (points <= boxes[:, 2:])).all(axis=1))
    worth = iou + (box_l1 < BOX_L1_SHARE) + ((distance < POINT_SHARE) & inside[:, None])
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return Pairs(iou[rows, columns], box_l1[rows, columns], distance[rows, columns], inside[rows])


def _mean_over_pairs(response: Response, value: Callable[[Pairs], np.ndarray]) -> float:
    if response.rightly_empty:
        return 1.0
    if not response.answer.objects or not response.truth:
        return 0.0
    return float(value(response.pairs).sum() / response.pairs_wanted)


def think(response: Response) -> float:
    """1 if the text is one think block and one answer block, white space around them allowed."""
    text = response.text.strip()
    return float(
        text.startswith("<think>")
        and text.endswith("</answer>")
        and all(text.count(tag) == 1 for tag in ("<think>", "</think>", "<answer>", "</answer>"))
        and not text[text.find("</think>") + len("</think>") : text.find("<answer>")].strip()
    )


def format_term(response: Response) -> float:
    """Share of the answered objects that have a box and a point; 1 for a well-formed empty list."""
    if response.answer.problem is not None:
        return 0.0
    objects = response.answer.objects
    if not objects:
        return 1.0
    return sum(0.5 * (o.box is not None) + 0.5 * bool(o.points) for o in objects) / len(objects)


def iou(response: Response) -> float:
    """Share of the pairs with box IoU above 0.5."""
    return _mean_over_pairs(response, lambda pairs: pairs.iou > IOU_THRESHOLD)


def iou_soft(response: Response) -> float:
    """Mean box IoU of the pairs; missing and extra objects count as 0."""
    return _mean_over_pairs(response, lambda pairs: pairs.iou)


def box_l1(response: Response) -> float:
    """Share of the pairs whose corners are off by less than 10/840 of the side on average."""
    return _mean_over_pairs(response, lambda pairs: pairs.box_l1 < BOX_L1_SHARE)


def point(response: Response) -> float:
    """Share of the pairs whose point is within 30/840 of the side and inside its own box."""
    return _mean_over_pairs(response, lambda pairs: (pairs.distance < POINT_SHARE) & pairs.inside)


def non_repeat(response: Response) -> float:
    """1 if no sentence of the text stands twice."""
    sentences = [s for s in (part.strip() for part in _SENTENCE.split(response.answer.thinking)) if s]
    return float(len(set(sentences)) == len(sentences))


TERMS: dict[str, Callable[[Response], float]] = {
    "think": think,
    "format": format_term,
    "iou": iou,
    "iou_soft": iou_soft,
    "box_l1": box_l1,
    "point": point,
    "non_repeat": non_repeat,
}
