"""The published multi-object reward ``vision_reasoner``: format, accuracy and non_repeat, at most 7.

Values follow VisionReasoner (arXiv 2505.12081), faults included; new work should use ``seg_zero``.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from seg_zero.answer import MAX_OBJECTS
from seg_zero.rewards.geometry import pairwise_distance, pairwise_iou_inclusive, pairwise_l1
from seg_zero.rewards.published_single import guarded, think
from seg_zero.rewards.response import Response

IOU_THRESHOLD = 0.5
BOX_L1_PIXELS = 10
POINT_PIXELS = 30


def _answer(text: str) -> Any:
    """The JSON between the first answer tags. Raises if there is none."""
    start = text.index("<answer>") + len("<answer>")
    return json.loads(text[start : text.index("</answer>", start)].strip())


def _objects(text: str) -> list[Any]:
    objects = _answer(text)
    if not isinstance(objects, list) or not objects:
        raise ValueError("no list of objects")
    return objects


def _is_list(item: Any, key: str, count: int) -> bool:
    return isinstance(item, dict) and isinstance(item.get(key), list) and len(item[key]) == count


def answer_format(response: Response) -> float:
    """The think term, plus the mean over the objects of [box is a list of 4] + [point is a list of 2]."""
    return think(response) + guarded(_object_format, response.text)


def _object_format(text: str) -> float:
    objects = _objects(text)
    return sum(_is_list(item, "bbox_2d", 4) + _is_list(item, "point_2d", 2) for item in objects) / len(objects)


def accuracy(response: Response) -> float:
    """Hungarian assignment of up to three 0/1 hits per pair, over max(#predicted, #truth)."""
    truth = [(o.box, o.points[0]) for o in response.truth if o.box is not None and o.points]
    if len(truth) < len(response.truth):
        raise ValueError(f"every true object needs bbox_2d and point_2d, got {response.ground_truth[:120]!r}")
    return guarded(_accuracy, response.text, truth[:MAX_OBJECTS])


def _accuracy(text: str, truth: list[Any]) -> float:
    predicted = _objects(text)[:MAX_OBJECTS]
    if not truth or not all(_is_list(item, "bbox_2d", 4) and _is_list(item, "point_2d", 2) for item in predicted):
        return 0.0
    numbers = [[*item["bbox_2d"], *item["point_2d"]] for item in predicted]
    if not all(isinstance(v, int | float) for row in numbers for v in row):
        return 0.0  # string coordinates fail in the published arithmetic
    boxes, points = np.split(np.array(numbers, dtype=float), [4], axis=1)
    true_boxes, true_points = (np.array(part, dtype=float) for part in zip(*truth, strict=True))
    inside = np.asarray(((points >= boxes[:, :2]) & (points <= boxes[:, 2:])).all(axis=1))
    with np.errstate(all="ignore"):  # coordinates such as 1e308 are only too far away
        hits = (
            (pairwise_iou_inclusive(boxes, true_boxes) > IOU_THRESHOLD).astype(float)
            + (pairwise_l1(boxes, true_boxes) < BOX_L1_PIXELS)
            + ((pairwise_distance(points, true_points) < POINT_PIXELS) & inside[:, None])
        )
    rows, columns = linear_sum_assignment(hits, maximize=True)
    return float(hits[rows, columns].sum() / max(len(predicted), len(truth)))


def non_repeat(response: Response) -> float:
    """0 as soon as two sentences (split on ".", stripped) stand again, else 1."""
    seen: set[str] = set()
    repeats = 0
    for sentence in (part.strip() for part in response.text.split(".")):
        if not sentence:
            continue
        repeats += sentence in seen
        if repeats >= 2:
            return 0.0
        seen.add(sentence)
    return 1.0
