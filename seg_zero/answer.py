"""Text to prompt objects and back: the only place where an answer is read or written.

Two answer formats exist. In both, the policy thinks inside ``<think>`` and answers inside
``<answer>``; coordinates are pixels of the image that the policy saw.

* single: ``{"bbox": [x1,y1,x2,y2], "points_1": [x,y], "points_2": [x,y]}``
* multi:  ``[{"bbox_2d": [x1,y1,x2,y2], "point_2d": [x,y]}, ...]``; ``[]`` means "nothing matches"

Model text is never trusted: :func:`parse_answer` returns an :class:`Answer` for every string.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from seg_zero.objects import MAX_ABS_COORDINATE, Box, Point, PromptObject

# An answer longer than this is not an answer; the bound keeps parsing time flat.
MAX_ANSWER_CHARS = 65_536
MAX_OBJECTS = 120

# Whole numbers, since most coordinates are, and comparing like with like is quick.
_LOWEST, _HIGHEST = -int(MAX_ABS_COORDINATE), int(MAX_ABS_COORDINATE)
_POINT_KEYS = ("point_2d", "points_1", "points_2")
_FENCE = re.compile(r"```[a-zA-Z]*\s*")
_OPENING, _CLOSING = "<answer>", "</answer>"
_VALUE = re.compile(r"[\[{]")
_LAST_COMMA = re.compile(r",(?=\s*[\]}])")
_MAX_BRACKETS = 64  # in prose that are tried as the beginning of JSON, which keeps the time linear
_BOX_TAG = re.compile(r"<box>\(([^()<>]*)\),\(([^()<>]*)\)</box>")
_POINTS_TAG = re.compile(r"<points>\(([^()<>]*)\),\(([^()<>]*)\)</points>")


@dataclass(frozen=True)
class Answer:
    """A policy's text, read.

    ``problem`` is None for a well-formed answer, otherwise one line that describes the fault.
    ``objects`` may be empty without a problem: the policy answered that nothing matches.
    ``left_out`` counts list entries that are unusable or come after the first MAX_OBJECTS.
    """

    objects: tuple[PromptObject, ...]
    thinking: str
    text: str
    problem: str | None = None
    left_out: int = 0


def _between(text: str, opening: str, closing: str) -> str | None:
    """The text after the last ``opening`` up to the next ``closing``; None if either is missing."""
    start = text.rfind(opening)
    if start < 0:
        return None
    start += len(opening)
    end = text.find(closing, start)
    return None if end < 0 else text[start:end]


def answer_span(text: str) -> tuple[int, int] | None:
    """Where the inside of the answer block begins and ends: the last block that is closed and stands outside the
    reasoning, which may name the tags. None if there is none.
    """
    start = text.rfind(_OPENING, 0, max(text.rfind(_CLOSING), 0))
    if start < 0:
        return None
    end = text.index(_CLOSING, start)
    thinks = text.rfind("<think>", 0, start) > text.rfind("</think>", 0, start)
    if thinks and text.find("</think>", end) >= 0:
        return None
    return start + len(_OPENING), end


def _unfenced(block: str) -> str:
    """The inside of a Markdown code block, or the text itself if it is none."""
    opening = _FENCE.match(block)
    return block if opening is None else block[opening.end() :].removesuffix("```").rstrip()


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not a coordinate")


_DECODER = json.JSONDecoder(parse_constant=_reject_constant)


def load_json(text: str) -> object:
    """``json.loads`` for untrusted text: any failure, too deep nesting included, is a ValueError."""
    if len(text) > MAX_ANSWER_CHARS:
        raise ValueError(f"the answer has {len(text)} characters, more than {MAX_ANSWER_CHARS}")
    if '"' not in text:
        text = text.replace("'", '"')  # Python's quotes; a policy copies them from published prompts
    try:
        return json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the answer is not JSON ({str(error)[:80]})") from error


def _read_block(block: str) -> object:
    """The JSON of an answer block, which may have prose or commas around it. Raises ValueError if there is none."""
    text = _unfenced(block.strip())
    try:
        return load_json(text)
    except ValueError as error:
        if len(text) <= MAX_ANSWER_CHARS and (found := _embedded(text)) is not None:
            return found
        raise error


def _embedded(text: str) -> list[object] | None:
    """All objects of the JSON lists and objects in prose; None without any, or if part of the JSON is broken.

    An empty list counts if nothing else is there. Lists without an object, such as "[1]", are prose.
    """
    text = _LAST_COMMA.sub("", text if '"' in text else text.replace("'", '"'))
    found: list[object] = []
    prose, after, failures, values = "", 0, 0, 0
    while (opening := _VALUE.search(text, after)) is not None:
        prose += text[after : opening.start()]
        try:
            value, after = _DECODER.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            failures += 1
            if opening[0] == "{" or failures > _MAX_BRACKETS:
                return None
            prose, after = prose + "[", opening.end()
            continue
        items = [value] if isinstance(value, dict) else value
        if any(isinstance(item, dict) for item in items):
            if prose.count("[") != prose.count("]"):  # part of a list that is broken
                return None
            found += items
            prose = ""
            values += 1
        values += not items
    prose += text[after:]
    broken = "}" in prose or prose.count("[") != prose.count("]")
    return None if broken or not values else found


def as_coordinates(value: object, count: int) -> tuple[float, ...] | None:
    """``value`` as ``count`` finite numbers, or None. Strings, booleans and nested lists are not numbers."""
    if not isinstance(value, list) or len(value) != count:
        return None
    for item in value:
        kind = type(item)  # not isinstance: a boolean is an int
        if kind is not int and kind is not float:
            return None
        if not _LOWEST <= item <= _HIGHEST:  # also False for NaN
            return None
    return tuple(map(float, value))


def _read_object(value: object) -> PromptObject | None:
    if not isinstance(value, dict):
        return None
    box = as_coordinates(value.get("bbox_2d", value.get("bbox")), 4)
    points: tuple[tuple[float, ...], ...] = ()
    for key in _POINT_KEYS:
        if key in value and (point := as_coordinates(value[key], 2)) is not None:
            points += (point,)
    if box is None and not points:
        return None
    return PromptObject(cast("Box | None", box), cast("tuple[Point, ...]", points))


def parse_answer(text: str) -> Answer:
    """Read a policy's text of either format. Never raises; JSON counts only inside the answer block.

    Prose, commas or a code fence around the JSON do not matter. Malformed objects are skipped; ``problem`` is set when
    there is no answer block, no JSON list or object in it, or no usable object in a list that is not empty.
    """
    thinking = _between(text, "<think>", "</think>")
    thinking = "" if thinking is None else thinking.strip()
    span = answer_span(text)
    if span is None:
        return Answer((), thinking, text, "no <answer>...</answer> block")
    try:
        value = _read_block(text[slice(*span)])
    except ValueError as error:
        return Answer((), thinking, text, str(error))
    items = [value] if isinstance(value, dict) else value
    if not isinstance(items, list):
        return Answer((), thinking, text, f"the answer is a JSON {type(value).__name__}, not a list or object")
    objects = tuple(o for o in map(_read_object, items[:MAX_OBJECTS]) if o is not None)
    if items and not objects:
        problem = "no object in the answer has a box of 4 numbers or a point of 2"
        return Answer((), thinking, text, problem, len(items))
    return Answer(objects, thinking, text, None, len(items) - len(objects))


def read_names(text: str) -> tuple[str, ...]:
    """The names in a policy's answer block, each once and in order. Never raises; empty where nothing is named.

    The block is a JSON list of texts, or of objects with a ``label`` or ``name``; or words between commas or on lines.
    """
    span = answer_span(text)
    block = _unfenced(text[slice(*span)].strip()) if span is not None else ""
    try:
        found = load_json(block)
    except ValueError:
        found = [] if "{" in block or "[" in block else re.split(r"[,\n]", block)
    names: dict[str, str] = {}
    for item in found if isinstance(found, list) else [found]:
        name = item.get("label", item.get("name")) if isinstance(item, dict) else item
        words = " ".join(name.replace(",", " ").split()).strip(" .;-*") if isinstance(name, str) else ""
        if any(letter.isalnum() for letter in words):
            names.setdefault(words.casefold(), words)
    return tuple(names.values())[:MAX_OBJECTS]


def _whole(values: Sequence[float]) -> list[int]:
    return [math.floor(v + 0.5) for v in values]


def write_solution_multi(objects: Sequence[PromptObject]) -> str:
    """Ground truth as the published JSON string; coordinates are rounded, the first point is kept."""
    rows = []
    for item in objects:
        if item.box is None or not item.points:
            raise ValueError(f"a ground-truth object needs a box and a point, got {item}")
        rows.append({"bbox_2d": _whole(item.box), "point_2d": _whole(item.points[0])})
    return json.dumps(rows, separators=(",", ":"))


def write_solution_single(item: PromptObject) -> str:
    """Ground truth as the published tag string with one box and two points."""
    if item.box is None or len(item.points) != 2:
        raise ValueError(f"a single-object solution needs a box and two points, got {item}")
    b, (p, q) = _whole(item.box), (_whole(item.points[0]), _whole(item.points[1]))
    return f"<box>({b[0]},{b[1]}),({b[2]},{b[3]})</box><points>({p[0]},{p[1]}),({q[0]},{q[1]})</points>"


def write_answer(thinking: str, solution: str) -> str:
    """A response in the trained format around a multi-object JSON ``solution``."""
    return f"<think>{thinking}</think><answer>{solution}</answer>"


def _pair(text: str) -> Point:
    x, y = (float(part) for part in text.split(","))
    return (x, y)


@lru_cache(maxsize=4096)
def parse_solution(solution: str) -> tuple[PromptObject, ...]:
    """Read a ground truth of either published format (tag string or JSON string).

    Raises ValueError with the offending text: ground truth, unlike model text, must be right. Cached, since
    all answers to one question are compared with one truth.
    """
    try:
        box, points = _BOX_TAG.search(solution), _POINTS_TAG.search(solution)
        if box is not None:
            corners = (*_pair(box[1]), *_pair(box[2]))
            pts = () if points is None else (_pair(points[1]), _pair(points[2]))
            return (PromptObject((corners[0], corners[1], corners[2], corners[3]), pts),)
        rows = json.loads(solution)
        if not isinstance(rows, list):
            raise ValueError("the JSON is not a list")
        objects = []
        for row in rows:
            found = _read_object(row)
            if found is None or found.box is None:
                raise ValueError(f"{row!r} has no bbox_2d of four numbers")
            objects.append(found)
        return tuple(objects)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"cannot read the solution {solution[:120]!r}: {error}. Expected "
            "'<box>(x1,y1),(x2,y2)</box><points>(x,y),(x,y)</points>' or a JSON list of bbox_2d/point_2d"
        ) from error
