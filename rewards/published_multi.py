"""The published multi-object reward ``vision_reasoner``: format, accuracy and non_repeat, at most 7.

Values follow VisionReasoner (arXiv 2505.12081), faults included; new work should use ``seg_zero``.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from seg_zero.answer import MAX_OBJECTS
from seg_zero.rewards.geometry import pairwise_iou, pairwise_l1
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
    """The think term, plus the mean over the objects of [box is a list of 4] + [point is a list of 2].

    An entry that is no object ends the count where the published code fails on it: what came before it stays.
    """
    return think(response) + guarded(_object_format, response.text)


def _object_format(text: str) -> float:
    objects = _objects(text)
    found = 0
    for item in objects:
        if not isinstance(item, dict):
            if not isinstance(item, str | list) or "bbox_2d" in item or "point_2d" in item:
                break
            continue
        found += _is_list(item, "bbox_2d", 4) + _is_list(item, "point_2d", 2)
    return found / len(objects)


def accuracy(response: Response) -> float:
    """Hungarian assignment of up to three 0/1 hits per pair, over max(#predicted, #truth).

    As published it is 0 for whatever its arithmetic fails on: an entry without a box or a point anywhere in the list,
    text or null for a number, a point beyond 64-bit integers, or a ground truth of the single-object kind. Raises
    ValueError for a ground truth that cannot be read or lacks a box or a point.
    """
    if not all(item.box is not None and item.points for item in response.truth):
        raise ValueError(f"every true object needs bbox_2d and point_2d, got {response.ground_truth[:120]!r}")
    return guarded(_accuracy, response.text, response.ground_truth)


def _accuracy(text: str, ground_truth: str) -> float:
    boxes, points = _arrays(_objects(text))
    true_boxes, true_points = _arrays(json.loads(ground_truth))
    inside = (points[:, 0] >= boxes[:, 0]) & (points[:, 0] <= boxes[:, 2])
    inside &= (points[:, 1] >= boxes[:, 1]) & (points[:, 1] <= boxes[:, 3])
    with np.errstate(all="ignore"):  # coordinates such as 1e308 are only too far away
        distance = np.sqrt(((points[:, None] - true_points) ** 2).sum(axis=2))
        hits = (
            (pairwise_iou(boxes, true_boxes) > IOU_THRESHOLD).astype(float)
            + (pairwise_l1(boxes, true_boxes) < BOX_L1_PIXELS)
            + ((distance < POINT_PIXELS) & inside[:, None])
        )
    rows, columns = linear_sum_assignment(hits, maximize=True)
    return float(hits[rows, columns].sum() / max(len(boxes), len(true_boxes)))


def _arrays(objects: Any) -> tuple[np.ndarray, np.ndarray]:
    """Boxes N x 4 and points N x 2 of the first 120 objects, in numpy's own dtype: what fails depends on it."""
    boxes, points = ([item[key] for item in objects] for key in ("bbox_2d", "point_2d"))
    arrays = np.array(boxes[:MAX_OBJECTS]), np.array(points[:MAX_OBJECTS])
    if arrays[0].shape[1:] != (4,) or arrays[1].shape[1:] != (2,):
        raise ValueError("a box has four numbers and a point two")
    return arrays


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
