"""The published single-object rewards ``seg`` and ``seg_strict``: five 0/1 terms, at most 5.

Values follow Seg-Zero (arXiv 2503.06520), faults included; new work should use preset ``seg_zero``.
Each term is 0 whenever anything in it goes wrong. ``strict``: keys must be named exactly.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from seg_zero.objects import PromptObject
from seg_zero.rewards.geometry import published_box_iou
from seg_zero.rewards.response import Response

_BLOCKS_MEET = re.compile(r"</think>\s*<answer>")

IOU_THRESHOLD = 0.5
BOX_L1_PIXELS = 10
POINT_PIXELS = 100


def think(response: Response) -> float:
    """1 if the whole string is a think block, optional white space and an answer block.

    Any character before or after them loses the term; the blocks may hold anything, tags included.
    """
    text = response.text
    if not (text.startswith("<think>") and text.endswith("</answer>")):
        return 0.0
    found = _BLOCKS_MEET.search(text, len("<think>"))
    return float(found is not None and found.end() <= len(text) - len("</answer>"))


def guarded(term: Callable[..., float], *arguments: Any) -> float:
    """The term's value, or 0 for anything that goes wrong in it, as in the published code."""
    try:
        return float(term(*arguments))
    except Exception:
        return 0.0


def _truth(response: Response) -> PromptObject:
    truth = response.truth
    if len(truth) != 1 or truth[0].box is None or len(truth[0].points) != 2:
        raise ValueError(
            f"the published single-object rewards need '<box>(x1,y1),(x2,y2)</box><points>(x,y),(x,y)</points>', "
            f"got {response.ground_truth[:120]!r}; use reward=vision_reasoner or reward=seg_zero for this data"
        )
    return truth[0]


def _first_object(text: str) -> dict[str, Any]:
    """The first brace with something behind it, up to the next closing brace, as JSON. Raises if that is no object."""
    start = text.find("{")
    while start >= 0 and text.startswith("}", start + 1):
        start = text.find("{", start + 1)
    end = text.find("}", start + 1)
    data = json.loads(text[start : end + 1]) if 0 <= start < end else None
    if not isinstance(data, dict):
        raise ValueError("no JSON object")
    return data


def _keys(data: dict[str, Any], word: str, count: int | None = None) -> list[str]:
    return [key for key in data if word in key.lower()][:count]


def _box(data: dict[str, Any], strict: bool) -> Any:
    box = data["bbox"] if strict else data[_keys(data, "bbox", 1)[0]]
    if len(box) != 4:
        raise ValueError("a box has four numbers")
    return box


def answer_format(response: Response, strict: bool) -> float:
    """1 if the first JSON object has a box of length 4 and two points of length 2, all lists if ``strict``."""
    return guarded(_answer_format, response.text, strict)


def _answer_format(text: str, strict: bool) -> float:
    data = _first_object(text)
    if strict:
        values = [data["bbox"], data["points_1"], data["points_2"]]
        return float(all(isinstance(value, list) for value in values) and [len(value) for value in values] == [4, 2, 2])
    box = _keys(data, "bbox", 1)[0]
    points = [key for key in _keys(data, "point") if key != box][:2]
    return float([len(data[key]) for key in (box, *points)] == [4, 2, 2])


def iou(response: Response, strict: bool) -> float:
    """1 if the box IoU with inclusive pixel areas is above 0.5."""
    return guarded(_iou, response.text, _truth(response).box, strict)


def _iou(text: str, truth: tuple[float, ...], strict: bool) -> float:
    return float(published_box_iou(truth, _box(_first_object(text), strict)) > IOU_THRESHOLD)


def box_l1(response: Response, strict: bool) -> float:
    """1 if the four coordinates are off by less than 10 pixels on average."""
    return guarded(_box_l1, response.text, _truth(response).box, strict)


def _box_l1(text: str, truth: tuple[float, ...], strict: bool) -> float:
    box = _box(_first_object(text), strict)
    return float(sum(abs(a - b) for a, b in zip(truth, box, strict=True)) / 4 < BOX_L1_PIXELS)


def point(response: Response, strict: bool) -> float:
    """1 if both points lie in the predicted box and near the true ones under the better pairing."""
    return guarded(_point, response.text, _truth(response).points, strict)


def _point(text: str, truth: tuple[tuple[float, float], ...], strict: bool) -> float:
    data = _first_object(text)
    box = _box(data, strict)
    keys = ["points_1", "points_2"] if strict else _keys(data, "points", 2)
    p, q = ((int(data[key][0]), int(data[key][1])) for key in keys)
    if not all(box[0] <= x <= box[2] and box[1] <= y <= box[3] for x, y in (p, q)):
        return 0.0
    s, t = truth
    distance = min(math.dist(p, s) + math.dist(q, t), math.dist(p, t) + math.dist(q, s)) / 2
    return float(distance < POINT_PIXELS)
