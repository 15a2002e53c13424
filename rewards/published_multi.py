"""The published multi-object reward ``vision_reasoner``: format, accuracy and non_repeat, at most 7.

Values follow VisionReasoner (arXiv 2505.12081), faults included; new work should use ``seg_zero``.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from rewards.geometry import pairwise_distance, pairwise_iou_inclusive, pairwise_l1
from rewards.published_single import guarded, think
from seg_zero.answer import MAX_OBJECTS

_ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
IOU_THRESHOLD = 0.5
BOX_L1_PIXELS = 10
POINT_PIXELS = 30


def _answer(prediction: str) -> Any:
    start = prediction.find("<answer>")
    if start < 0 or prediction.find("</answer>", start) < 0:
        return None
    found = _ANSWER.search(prediction)
    return None if found is None else json.loads(found[1])


def object_format(prediction: str) -> float:
    """Mean over the predicted objects of [box is a list of 4] + [point is a list of 2]."""
    objects = _answer(prediction)
    if not objects:
        return 0.0
    score = 0
    for item in objects:
        score += isinstance(item.get("bbox_2d"), list) and len(item["bbox_2d"]) == 4
        score += isinstance(item.get("point_2d"), list) and len(item["point_2d"]) == 2
    return score / len(objects)


def accuracy(prediction: str, ground_truth: str) -> float:
    """Hungarian assignment of up to three 0/1 hits per pair, over max(#predicted, #truth)."""
    predicted, truth = (items[:MAX_OBJECTS] for items in (_answer(prediction), json.loads(ground_truth)))
    boxes = np.array([item["bbox_2d"] for item in predicted], dtype=object)
    points = np.array([item["point_2d"] for item in predicted], dtype=object)
    if not all(isinstance(v, int | float) for v in (*boxes.ravel(), *points.ravel())):
        return 0.0  # string coordinates fail in the published arithmetic
    boxes, points = boxes.astype(float), points.astype(float)
    true_boxes = np.array([item["bbox_2d"] for item in truth], dtype=float)
    true_points = np.array([item["point_2d"] for item in truth], dtype=float)
    inside = np.asarray(((points >= boxes[:, :2]) & (points <= boxes[:, 2:])).all(axis=1))
    with np.errstate(over="ignore"):  # coordinates such as 1e308 are only too far away
        hits = (
            (pairwise_iou_inclusive(boxes, true_boxes) > IOU_THRESHOLD).astype(float)
            + (pairwise_l1(boxes, true_boxes) < BOX_L1_PIXELS)
            + ((pairwise_distance(points, true_points) < POINT_PIXELS) & inside[:, None])
        )
    rows, columns = linear_sum_assignment(hits, maximize=True)
    return float(hits[rows, columns].sum() / max(len(predicted), len(truth)))


def non_repeat(prediction: str) -> float:
    """0 as soon as two sentences (split on ".", stripped) stand again, else 1."""
    seen: set[str] = set()
    repeats = 0
    for sentence in (part.strip() for part in prediction.split(".")):
        if not sentence:
            continue
        repeats += sentence in seen
        if repeats >= 2:
            return 0.0
        seen.add(sentence)
    return 1.0


def score(prediction: str, ground_truth: str) -> dict[str, float]:
    """All terms of ``vision_reasoner`` for one response; the ground truth is the JSON string."""
    return {
        "format": think(prediction) + guarded(object_format, prediction),
        "accuracy": guarded(accuracy, prediction, ground_truth),
        "non_repeat": non_repeat(prediction),
    }
