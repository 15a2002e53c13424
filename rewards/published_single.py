"""The published single-object rewards ``seg`` and ``seg_strict``: five 0/1 terms, at most 5.

Values follow Seg-Zero (arXiv 2503.06520), faults included; new work should use preset ``seg_zero``.
Each term is 0 whenever anything in it goes wrong.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from rewards.geometry import box_iou_inclusive
from seg_zero.answer import parse_solution

# Used as a full match: any leading or trailing character loses the term.
THINK_FORMAT = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)
_FIRST_OBJECT = re.compile(r"\{[^{}]*\}")

IOU_THRESHOLD = 0.5
BOX_L1_PIXELS = 10
POINT_PIXELS = 100


def think(prediction: str) -> float:
    """1 if the whole string is a think block, optional white space and an answer block."""
    if not (prediction.startswith("<think>") and prediction.endswith("</answer>")):
        return 0.0  # cheap, and spares the regular expression hopeless texts
    return float(THINK_FORMAT.fullmatch(prediction) is not None)


def _first_object(prediction: str) -> dict[str, Any] | None:
    found = _FIRST_OBJECT.search(prediction)
    if found is None:
        return None
    data = json.loads(found[0])
    return data if isinstance(data, dict) else None


def _key(data: dict[str, Any], word: str, count: int) -> list[str]:
    return [key for key in data if word in key.lower()][:count]


def format_term(prediction: str, strict: bool) -> float:
    """1 if the first JSON object has a box of length 4 and two points of length 2."""
    data = _first_object(prediction)
    if not data:
        return 0.0
    if strict:
        named = [data["bbox"], data["points_1"], data["points_2"]]
    else:
        named = [data[_key(data, "bbox", 1)[0]], *(data[key] for key in _key(data, "point", 2))]
    wanted = (4, 2, 2)
    return float(len(named) == 3 and all(len(value) == n for value, n in zip(named, wanted, strict=True)))


def _box(data: dict[str, Any], strict: bool) -> Any:
    return data["bbox"] if strict else data[_key(data, "bbox", 1)[0]]


def iou(prediction: str, truth: tuple[float, ...], strict: bool) -> float:
    data = _first_object(prediction)
    box = _box(data, strict) if data else []
    return float(len(box) == 4 and box_iou_inclusive(truth, box) > IOU_THRESHOLD)


def box_l1(prediction: str, truth: tuple[float, ...], strict: bool) -> float:
    data = _first_object(prediction)
    box = _box(data, strict) if data else []
    return float(len(box) == 4 and sum(abs(a - b) for a, b in zip(truth, box, strict=True)) / 4 < BOX_L1_PIXELS)


def point(prediction: str, truth: tuple[tuple[float, float], ...], strict: bool) -> float:
    """Both points inside the predicted box, and near the true points under the better pairing."""
    data = _first_object(prediction)
    if not data:
        return 0.0
    box = _box(data, strict)
    keys = ["points_1", "points_2"] if strict else _key(data, "points", 2)
    p, q = ((int(data[key][0]), int(data[key][1])) for key in keys)
    if len(box) != 4:
        return 0.0
    if not all(box[0] <= x <= box[2] and box[1] <= y <= box[3] for x, y in (p, q)):
        return 0.0
    s, t = truth
    distance = min(math.dist(p, s) + math.dist(q, t), math.dist(p, t) + math.dist(q, s)) / 2
    return float(distance < POINT_PIXELS)


def guarded(term: Callable[..., float], *arguments: Any) -> float:
    """The term's value, or 0 for anything that goes wrong in it, as in the published code."""
    try:
        return float(term(*arguments))
    except Exception:
        return 0.0


def score(prediction: str, ground_truth: str, strict: bool) -> dict[str, float]:
    """All terms of ``seg`` (or ``seg_strict``) for one response; the ground truth is the tag string."""
    (truth,) = parse_solution(ground_truth)
    return {
        "think": think(prediction),
        "format": guarded(format_term, prediction, strict),
        "iou": guarded(iou, prediction, truth.box, strict),
        "box_l1": guarded(box_l1, prediction, truth.box, strict),
        "point": guarded(point, prediction, truth.points, strict),
    }
