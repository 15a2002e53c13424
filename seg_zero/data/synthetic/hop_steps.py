"""Reasoning over a question of several hops, as text: the anchor, then the object that each hop leads to.

    I see the red circle (23,40) same colour from largest above; the blue square (61,20) same colour; the blue cross
    (90,77)

An object is written with its colour, its form and the point that an answer would give for it, in pixels. Beside it
stand the hops that are left, in the order of the question's words: the next one last, just before the object that it
leads to. What to do next is thus read off the last few words, however many hops came before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot

from seg_zero.answer import write_solution_multi
from seg_zero.data.synthetic.hops import ALIKE, CHOICES, DIRECTIONS, Chain, Relation
from seg_zero.data.synthetic.scenes import COLOURS, SHAPES, Scene

OPENING = "I see"
_FROM = " from "
_OBJECT = rf"the ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}) \((\d+),(\d+)\)"
_RELATION = rf"(?:same (?:{'|'.join(ALIKE)})|(?:{'|'.join(CHOICES)}) (?:{'|'.join(DIRECTIONS)}))"
_STEP = re.compile(rf"{_OBJECT}((?: {_RELATION}(?:{_FROM}{_RELATION})*)?)")


@dataclass(frozen=True)
class Step:
    """One written step; ``x`` and ``y`` are pixels.

    relation: the first one that the step before leaves; None for the anchor, and where none was left.
    rest: the relations that this step leaves, the next one first.
    """

    relation: Relation | None
    colour: str
    shape: str
    x: int
    y: int
    rest: tuple[Relation, ...] = ()


def point_of(scene: Scene, index: int) -> tuple[int, int]:
    """The point by which an object is written, in whole pixels: the one that a solution has."""
    (item,) = json.loads(write_solution_multi([scene.objects[index].prompt]))
    x, y = item["point_2d"]
    return x, y


def relation_words(relation: Relation) -> str:
    """A relation as it stands in a step."""
    return f"same {relation.where}" if relation.where in ALIKE else f"{relation.choice} {relation.where}"


def write_steps(scene: Scene, path: Sequence[int], relations: Sequence[Relation]) -> str:
    """The thought that goes along ``path`` (indices of objects), which takes the first of ``relations``.

    The last object has nothing after it, also if the path ends before the relations do.
    """
    parts = []
    for number, index in enumerate(path):
        x, y = point_of(scene, index)
        item = f"the {scene.objects[index].colour} {scene.objects[index].shape} ({x},{y})"
        left = [] if number == len(path) - 1 else list(map(relation_words, relations[number:]))
        parts.append(f"{item} {_FROM.join(reversed(left))}".rstrip())
    return f"{OPENING} " + "; ".join(parts)


def read_steps(thought: str) -> list[Step]:
    """The steps of a thought up to the first part that is none; never raises on a policy's text."""
    opening, found, rest = thought.strip().partition(f"{OPENING} ")
    if opening or not found:
        return []
    steps: list[Step] = []
    for part in rest.split(";"):
        match = _STEP.fullmatch(part.strip())
        if match is None:
            break
        colour, shape, x, y, left = match.groups()
        relation = next(iter(steps[-1].rest), None) if steps else None
        steps.append(Step(relation, colour, shape, int(x), int(y), _relations(left)))
    return steps


def _relations(listed: str) -> tuple[Relation, ...]:
    found = [words.split(" ", 1) for words in reversed(listed.strip().split(_FROM)) if words]
    return tuple(Relation(where) if first == "same" else Relation(where, first) for first, where in found)


def object_of(scene: Scene, step: Step) -> int | None:
    """The object that a step names: the nearest of its colour and form, if the point is within its radius."""
    away = {
        index: hypot(step.x - point[0], step.y - point[1])
        for index, item in enumerate(scene.objects)
        if (item.colour, item.shape) == (step.colour, step.shape)
        for point in (point_of(scene, index),)
        if hypot(step.x - point[0], step.y - point[1]) <= item.radius
    }
    return min(away, key=away.__getitem__) if away else None


@dataclass(frozen=True)
class JudgedSteps:
    """Written steps against the scene.

    hops: how many are written. right: how many are right in a row from the first on, by relation and object.
    anchored: whether the anchor is right.
    """

    hops: int
    right: int
    anchored: bool

    def complete(self, chain: Chain) -> bool:
        """Whether exactly the chain's steps are written."""
        return self.anchored and self.hops == self.right == chain.hops


def judge_steps(scene: Scene, chain: Chain, thought: str) -> JudgedSteps:
    steps = read_steps(thought)
    if not steps:
        return JudgedSteps(0, 0, False)
    anchored = object_of(scene, steps[0]) == chain.anchor
    right = 0
    for step, relation, target in zip(steps[1:], chain.relations, chain.path[1:], strict=False):
        if not anchored or step.relation != relation or object_of(scene, step) != target:
            break
        right += 1
    return JudgedSteps(len(steps) - 1, right, anchored)
