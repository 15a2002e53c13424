"""Answers that a reward must not pay for: strategies that find no object, and true objects in bad form.

Each strategy takes a :class:`Case` and gives the text that a policy would write. Strategies may look at the truth: what
earns little with that help earns less without it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from seg_zero.answer import MAX_OBJECTS, parse_answer
from seg_zero.objects import Box, Point, PromptObject
from seg_zero.prompting import TEMPLATES
from seg_zero.rewards.response import PUBLISHED_SIDE

REASONING = "The picture is searched from left to right, and what fits the description best is marked."
SHIFTS = (3, 6, 9, 15, 30)  # pixels of an 840 x 840 image
_SPAM_SEED = 0


@dataclass(frozen=True)
class Case:
    """One question's truth: the solution, its objects, (width, height) of the image, and its mask or None.

    mask: boolean, H x W, the pixels of all objects.
    """

    solution: str
    objects: tuple[PromptObject, ...]
    size: tuple[int, int]
    mask: np.ndarray | None = None

    @property
    def single(self) -> bool:
        """Whether the solution is a published tag string, whose answer is one object with two points."""
        return "<box>" in self.solution


@dataclass(frozen=True)
class Attack:
    """What a strategy writes for one case, and the objects in it.

    moved: by how many pixels, right and down, all true objects were moved, if that is the strategy.
    """

    text: str
    objects: tuple[PromptObject, ...]
    moved: tuple[float, float] | None = None


def number(value: float) -> float | int:
    """The value as JSON shows it: without a fraction if it has none."""
    return int(value) if float(value).is_integer() else round(float(value), 2)


def as_json(item: PromptObject, single: bool) -> dict[str, object]:
    """The object with the keys of its answer format; what is missing is omitted."""
    box, points = ("bbox", ("points_1", "points_2")) if single else ("bbox_2d", ("point_2d",))
    written: dict[str, object] = {} if item.box is None else {box: [number(v) for v in item.box]}
    # A single-object answer has two points, even if they are the same.
    for key, point in zip(points, (item.points * 2 if len(item.points) == 1 else item.points), strict=False):
        written[key] = [number(v) for v in point]
    return written


def response(answer: str, reasoning: str = REASONING) -> str:
    return f"<think>{reasoning}</think><answer>{answer}</answer>"


def written(case: Case, objects: Sequence[PromptObject]) -> str:
    """The answer block's JSON: one object in the single-object format, else a list."""
    values = [as_json(item, case.single) for item in objects]
    return json.dumps(values[0] if case.single and len(values) == 1 else values)


def _moved(item: PromptObject, dx: float, dy: float) -> PromptObject:
    box = item.box and (item.box[0] + dx, item.box[1] + dy, item.box[2] + dx, item.box[3] + dy)
    return PromptObject(box, tuple((x + dx, y + dy) for x, y in item.points))


def _shifted(case: Case, pixels: float) -> Attack:
    dx, dy = (pixels * side / PUBLISHED_SIDE for side in case.size)
    objects = tuple(_moved(item, dx, dy) for item in case.objects)
    return Attack(response(written(case, objects)), objects, (dx, dy))


def _shifted_by_own_size(fraction: float) -> Callable[[Case], Sequence[PromptObject]]:
    def strategy(case: Case) -> Sequence[PromptObject]:
        boxes = [_box(item) for item in case.objects]
        steps = [((b[2] - b[0] + 1) * fraction, (b[3] - b[1] + 1) * fraction) for b in boxes]
        return [_moved(item, *step) for item, step in zip(case.objects, steps, strict=True)]

    return strategy


def _box(item: PromptObject) -> Box:
    if item.box is None:
        raise ValueError(f"a true object needs a box, got {item}")
    return item.box


def _whole(case: Case) -> Box:
    return (0.0, 0.0, case.size[0] - 1.0, case.size[1] - 1.0)


def _centre(box: Box) -> Point:
    return ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)


def _with_point(box: Box) -> PromptObject:
    return PromptObject(box, (_centre(box),))


def _grown(times: float) -> Callable[[Case], Sequence[PromptObject]]:
    """Boxes of ``times`` the side around the true centres, with the true points."""

    def strategy(case: Case) -> Sequence[PromptObject]:
        objects = []
        for item in case.objects:
            x1, y1, x2, y2 = _box(item)
            dx, dy = (x2 - x1 + 1) * (times - 1) / 2, (y2 - y1 + 1) * (times - 1) / 2
            objects.append(PromptObject((x1 - dx, y1 - dy, x2 + dx, y2 + dy), item.points))
        return objects

    return strategy


def _around_all(case: Case) -> Sequence[PromptObject]:
    boxes = np.array([_box(item) for item in case.objects]).reshape(-1, 4)
    if not len(boxes):
        return []
    box = (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())
    return [PromptObject((box[0], box[1], box[2], box[3]), case.objects[0].points)]


def _grid(cells: int) -> Callable[[Case], Sequence[PromptObject]]:
    def strategy(case: Case) -> Sequence[PromptObject]:
        width, height = (side / cells for side in case.size)
        return [
            _with_point((c * width, r * height, (c + 1) * width - 1, (r + 1) * height - 1))
            for r in range(cells)
            for c in range(cells)
        ]

    return strategy


def _spam(count: int) -> Callable[[Case], Sequence[PromptObject]]:
    def strategy(case: Case) -> Sequence[PromptObject]:
        rng = random.Random(_SPAM_SEED)
        objects = []
        for _ in range(count):
            xs, ys = (sorted(rng.randrange(side) for _ in range(2)) for side in case.size)
            objects.append(_with_point((xs[0], ys[0], xs[1], ys[1])))
        return objects

    return strategy


def _example(case: Case) -> Sequence[PromptObject]:
    template = TEMPLATES["single" if case.single else "multi"]
    return parse_answer(template[template.rindex("<think>") :]).objects


_STRATEGIES: dict[str, Callable[[Case], Sequence[PromptObject]]] = {
    "shifted by a quarter of its size": _shifted_by_own_size(0.25),
    "shifted by half of its size": _shifted_by_own_size(0.5),
    "whole image": lambda case: [_with_point(_whole(case))],
    "whole image, true points": lambda case: [replace(item, box=_whole(case)) for item in case.objects],
    "boxes of twice the side, true points": _grown(2.0),
    "boxes of half the side, true points": _grown(0.5),
    "one box around all": _around_all,
    "centre quarter of the image": lambda case: [_with_point(_quarter(case))],
    "grid of 3 x 3": _grid(3),
    "grid of 10 x 10": _grid(10),
    "first object, as often as there are objects": lambda case: case.objects[:1] * len(case.objects),
    "whole image five times": lambda case: [_with_point(_whole(case))] * 5,
    "points only": lambda case: [replace(item, box=None) for item in case.objects],
    "boxes only, shifted by half": lambda case: [replace(item, points=()) for item in _shifted_by_own_size(0.5)(case)],
    "example of the prompt": _example,
    "empty list": lambda case: [],
    "spam of 10 boxes": _spam(10),
    f"spam of {MAX_OBJECTS} boxes": _spam(MAX_OBJECTS),
}


def _quarter(case: Case) -> Box:
    width, height = case.size
    return (width // 4, height // 4, 3 * width // 4, 3 * height // 4)


def attacks(case: Case) -> dict[str, Attack]:
    """What every strategy writes for the case, by its name."""
    found = {f"shifted by {pixels} of 840": _shifted(case, pixels) for pixels in SHIFTS}
    for name, strategy in _STRATEGIES.items():
        objects = tuple(strategy(case))
        found[name] = Attack(response(written(case, objects)), objects)
    return found


_BAD_FORM: dict[str, str] = {
    "empty thinking": "",
    "5,000 different sentences": " ".join(f"Sentence {i} says something of its own." for i in range(5_000)),
    "one sentence 100 times": REASONING + (" " + REASONING) * 99,
    "one word 5,000 times": "look " * 5_000,
}


def bad_form(case: Case) -> dict[str, str]:
    """The true objects after reasoning that a reward should not pay in full, by name."""
    truth = written(case, case.objects)
    return {name: response(truth, reasoning) for name, reasoning in _BAD_FORM.items()}
