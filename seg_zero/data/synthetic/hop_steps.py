"""Reasoning over a question of several hops, as text: the anchor, then each hop with the object it leads to.

    I see the red circle (23,40); largest above the blue square (61,20); same colour the blue cross (90,77)

An object is written with its colour, its form and the point that an answer would give for it, in pixels.
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
_OBJECT = rf"the ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}) \((\d+),(\d+)\)"
_FIRST = re.compile(rf"{OPENING} {_OBJECT}")
_HOP = re.compile(rf"(?:same ({'|'.join(ALIKE)})|({'|'.join(CHOICES)}) ({'|'.join(DIRECTIONS)})) {_OBJECT}")


@dataclass(frozen=True)
class Step:
    """One written step. ``relation`` is None for the anchor; ``x`` and ``y`` are pixels."""

    relation: Relation | None
    colour: str
    shape: str
    x: int
    y: int


def point_of(scene: Scene, index: int) -> tuple[int, int]:
    """The point by which an object is written, in whole pixels: the one that a solution has."""
    (item,) = json.loads(write_solution_multi([scene.objects[index].prompt]))
    x, y = item["point_2d"]
    return x, y


def relation_words(relation: Relation) -> str:
    """A relation as it stands in a step."""
    return f"same {relation.where}" if relation.where in ALIKE else f"{relation.choice} {relation.where}"


def write_steps(scene: Scene, path: Sequence[int], relations: Sequence[Relation]) -> str:
    """The thought that goes along ``path`` (indices of objects), one more than there are ``relations``."""
    objects = []
    for index in path:
        x, y = point_of(scene, index)
        objects.append(f"the {scene.objects[index].colour} {scene.objects[index].shape} ({x},{y})")
    hops = [f"{relation_words(relation)} {item}" for relation, item in zip(relations, objects[1:], strict=True)]
    return "; ".join([f"{OPENING} {objects[0]}", *hops])


def read_steps(thought: str) -> list[Step]:
    """The steps of a thought up to the first part that is none; never raises on a policy's text."""
    steps: list[Step] = []
    for part in thought.strip().split(";"):
        found = (_HOP if steps else _FIRST).fullmatch(part.strip())
        if found is None:
            break
        *said, colour, shape, x, y = found.groups()
        relation = None if not said else Relation(said[0]) if said[0] else Relation(said[2], said[1])
        steps.append(Step(relation, colour, shape, int(x), int(y)))
    return steps


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
