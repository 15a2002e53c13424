"""Reasoning over several hops as text: written, read back, and checked against the scene."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from seg_zero.data.synthetic.hop_steps import judge_steps, object_of, read_steps, write_steps
from seg_zero.data.synthetic.hops import HOP_SETS, RELATIONS, Chain, Relation, follow
from seg_zero.data.synthetic.scenes import Scene
from seg_zero.data.synthetic.shortcuts import draw_any


@cache
def case(name: str = "3", seed: int = 4) -> tuple[Scene, Chain]:
    return draw_any(np.random.default_rng(seed), HOP_SETS[name], 112)


def thought(hops: int) -> str:
    scene, chain = case()
    return write_steps(scene, chain.path[: hops + 1], chain.relations)


@pytest.mark.parametrize("name", HOP_SETS)
def test_what_is_written_is_read_back(name: str) -> None:
    for seed in range(5):
        scene, chain = case(name, seed)
        steps = read_steps(write_steps(scene, chain.path, chain.relations))
        assert tuple(step.relation for step in steps) == (None, *chain.relations)
        assert tuple(object_of(scene, step) for step in steps) == chain.path
        judged = judge_steps(scene, chain, write_steps(scene, chain.path, chain.relations))
        assert judged.complete(chain)
        assert judged.hops == judged.right == chain.hops


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_relation_can_be_written(relation: Relation) -> None:
    scene, chain = case()
    step = read_steps(write_steps(scene, [chain.path[0], chain.path[1]], [relation]))[1]
    assert step.relation == relation


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", 0),
        ("looks red", 0),
        ("I see the red circle", 0),
        ("I see the pink circle (3,4)", 0),
        ("I see the red circle (3,4)", 1),
        ("I see the red circle (3,4); ", 1),
        ("I see the red circle (3,4) largest above", 1),
        ("I see the red circle (3,4) largest above; the blue cross (5,6", 1),
        ("I see the red circle (3,4) largest beside; the blue cross (5,6)", 0),
        ("I see the red circle (3,4) from ; the blue cross (5,6)", 0),
        ("I see the red circle (3,4) same colour; the red cross (5,6)", 2),
        ("I see the red circle (3,4) same colour from largest left of; the red cross (5,6)", 2),
        ("I see the red circle (3,4) same colour; nonsense; the red cross (5,6)", 1),
        ("the red circle (3,4) same colour; the red cross (5,6)", 0),
        ("So I see the red circle (3,4)", 0),
        ("largest above the blue cross (5,6)", 0),
        ("I see the red circle (3,4); I see the red circle (3,4)", 1),
        ("I see the red circle (-3,4)", 0),
    ],
)
def test_reading_ends_at_what_is_no_step(text: str, steps: int) -> None:
    assert len(read_steps(text)) == steps


def test_each_step_lists_the_relations_that_are_left() -> None:
    _, chain = case()
    steps = read_steps(thought(3))
    assert [step.rest for step in steps] == [chain.relations, chain.relations[1:], chain.relations[2:], ()]
    assert [step.rest for step in read_steps(thought(1))] == [chain.relations, ()]


def test_an_object_that_no_relation_leads_to_is_a_wrong_hop() -> None:
    scene, chain = case()
    second = write_steps(scene, chain.path[1:2], ())
    judged = judge_steps(scene, chain, thought(0) + second.replace("I see", ";"))
    assert (judged.anchored, judged.hops, judged.right) == (True, 1, 0)


def test_a_chain_that_ends_early_is_right_but_not_complete() -> None:
    scene, chain = case()
    judged = judge_steps(scene, chain, thought(2))
    assert (judged.anchored, judged.hops, judged.right) == (True, 2, 2)
    assert not judged.complete(chain)


def test_a_chain_that_goes_on_is_not_complete() -> None:
    scene, chain = case()
    judged = judge_steps(scene, chain, thought(3) + " same colour; the red circle (1,1)")
    assert (judged.hops, judged.right) == (4, 3)
    assert not judged.complete(chain)


def test_a_wrong_object_ends_what_is_right() -> None:
    scene, chain = case()
    wrong = next(i for i in range(len(scene.objects)) if i not in chain.path[:3])
    text = write_steps(scene, [chain.path[0], wrong, *chain.path[2:]], chain.relations)
    assert judge_steps(scene, chain, text).right == 0


def test_a_wrong_relation_with_the_right_object_is_wrong() -> None:
    scene, chain = case()
    other = next(r for r in RELATIONS if r != chain.relations[0] and follow(scene, chain.anchor, r) != chain.path[1])
    text = write_steps(scene, chain.path, [other, *chain.relations[1:]])
    assert judge_steps(scene, chain, text).right == 0


def test_nothing_is_right_after_a_wrong_anchor() -> None:
    scene, chain = case()
    text = write_steps(scene, [chain.path[1], *chain.path[1:]], chain.relations)
    judged = judge_steps(scene, chain, text)
    assert (judged.anchored, judged.right) == (False, 0)


def test_a_step_names_an_object_only_near_its_point() -> None:
    scene, chain = case()
    step = read_steps(thought(0))[0]
    moved = round(scene.objects[chain.anchor].radius)
    assert object_of(scene, step) == chain.anchor
    assert object_of(scene, type(step)(None, step.colour, step.shape, step.x + moved - 1, step.y)) == chain.anchor
    assert object_of(scene, type(step)(None, step.colour, step.shape, step.x + moved + 2, step.y)) is None
    other = "red" if step.colour != "red" else "blue"
    assert object_of(scene, type(step)(None, other, step.shape, step.x, step.y)) is None
