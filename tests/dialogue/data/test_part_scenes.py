"""Scenes whose shapes have parts: parts of named things, other parts of the same thing, and the thing of a part."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_zero.dialogue.data.generate import make_rounds
from seg_zero.dialogue.data.proof import prove
from seg_zero.dialogue.data.records import DialogueRecord, TrueRound, read_dialogues, write_dialogues
from seg_zero.dialogue.data.relations import NO, PART, SIBLING, WHOLE, YES, Thing, meant, relates
from seg_zero.dialogue.data.synthetic import PARTS, SEEDS, make_dialogue, make_dialogues, make_things
from seg_zero.dialogue.references import HIERARCHICAL, read_question
from seg_zero.masks import encode_mask


def block(words: str, x: int, y: int, width: int, height: int, part_of: int | None = None) -> Thing:
    mask = np.zeros((60, 60), dtype=bool)
    mask[y : y + height, x : x + width] = True
    return Thing(tuple(words.split()), mask, part_of)


# Two squares, the first with a cap and a base, the second with a cap.
THINGS = (
    block("red square", 5, 5, 20, 20),
    block("green square", 35, 35, 20, 20),
    block("blue cap", 5, 5, 20, 4, 0),
    block("yellow base", 5, 21, 20, 4, 0),
    block("blue cap", 35, 35, 20, 4, 1),
)
RED, GREEN, CAP, BASE, OTHER_CAP = range(5)


def test_parts_of_one_thing_are_siblings_and_belong_to_it() -> None:
    assert relates(THINGS, SIBLING, BASE, [CAP]) == YES and relates(THINGS, SIBLING, CAP, [CAP]) == NO
    assert relates(THINGS, SIBLING, OTHER_CAP, [CAP]) == NO
    assert relates(THINGS, SIBLING, GREEN, [RED]) == NO  # neither is a part
    assert relates(THINGS, WHOLE, RED, [CAP]) == YES and relates(THINGS, WHOLE, GREEN, [CAP]) == NO
    assert meant(THINGS, (), SIBLING, [CAP]) == BASE and meant(THINGS, (), SIBLING, [OTHER_CAP]) is None
    assert meant(THINGS, ("square",), WHOLE, [OTHER_CAP]) == GREEN


def test_every_target_of_a_scene_with_parts_is_unique_and_has_its_relation_in_pixels() -> None:
    seen = set()
    for number in range(25):
        _, found = make_dialogue(SEEDS["train"], number, scenes="parts")
        assert prove(found) == []
        truths = [one.truth() for one in found.rounds]
        for place, one in enumerate(found.rounds):
            assert one.rule is not None
            relation, earlier = one.rule["relation"], [truths[number - 1] for number in one.asked.references]
            named = "whole" in one.rule
            seen.add((relation, named, bool(read_question(one.asked.question).references)))
            assert (one.asked.relation == HIERARCHICAL) == (relation == PART and not named)
            if relation == WHOLE:
                assert not (earlier[0] & ~truths[place]).any()
            elif relation == SIBLING:
                assert not (earlier[0] & truths[place]).any()
            elif relation == PART and not named:
                assert not (truths[place] & ~earlier[0]).any()
    # Each by number and by "its" or "this"; a named whole needs neither.
    assert {
        (PART, True, False),
        *((kind, False, by) for kind in (PART, SIBLING, WHOLE) for by in (True, False)),
    } <= seen


@pytest.mark.parametrize("side", [32, 112])
def test_parts_lie_in_their_shape_apart_from_each_other_and_can_be_seen(side: int) -> None:
    for seed in range(12):
        image, things = make_things(np.random.default_rng(seed), side, False, "parts")
        plain, _ = make_things(np.random.default_rng(seed), side, False)
        changed = (np.asarray(image) != np.asarray(plain)).any(axis=2)
        shapes = [thing for thing in things if thing.part_of is None]
        parts = [thing for thing in things if thing.part_of is not None]
        assert {part.noun for part in parts} <= set(PARTS)
        assert not (changed & ~np.any([part.mask for part in parts], axis=0)).any()
        for part in parts:
            whole = shapes[part.part_of or 0]
            siblings = [other for other in parts if other is not part and other.part_of == part.part_of]
            assert part.mask.any() and not (part.mask & ~whole.mask).any()
            assert (changed & part.mask).sum() == part.mask.sum()
            assert not any((part.mask & other.mask).any() for other in siblings)
            assert part.words[0] not in {whole.words[0], *(other.words[0] for other in siblings)}
            assert all(part.noun != other.noun for other in siblings)


def test_train_and_val_share_no_picture() -> None:
    pictures = {
        split: {
            hashlib.sha256(make_dialogue(seed, n, scenes=scenes)[0].tobytes()).hexdigest()
            for n in range(8)
            for scenes in ("shapes", "parts")
        }
        for split, seed in SEEDS.items()
    }
    assert len(pictures["train"]) == len(pictures["val"]) == 16
    assert not pictures["train"] & pictures["val"]


def test_scenes_with_cores_are_what_they_were() -> None:
    """The data of trained models: the same pictures and questions from a seed and a number."""
    digest = hashlib.sha256()
    for parts in (False, True):
        for number in range(8):
            image, found = make_dialogue(12, number, parts=parts, forms="sentences")
            rounds = [
                [one.asked.question, one.asked.references, one.asked.relation, one.mask, one.rule]
                for one in found.rounds
            ]
            digest.update(image.tobytes() + json.dumps(rounds).encode() + found.id.encode())
    assert digest.hexdigest() == "eda815c6c2c76f436ee1e7c06e8abea7540dbfcec58b678aa2517778e2bb69ce"


def test_a_file_of_scenes_with_parts_holds_all_that_the_proof_needs(tmp_path: Path) -> None:
    made = list(make_dialogues(tmp_path / "images", SEEDS["val"], 6, scenes="parts", forms="sesame"))
    write_dialogues(tmp_path / "d.jsonl", made)
    read = read_dialogues(tmp_path / "d.jsonl")
    assert read.bad == [] and read.dialogues == made and all(prove(item) == [] for item in read.dialogues)


def record(*rounds: tuple[str, tuple[int, ...], int, dict[str, Any]]) -> DialogueRecord:
    """A dialogue about THINGS: question, references, target and rule of each round."""
    made = tuple(
        TrueRound(read_question(question, references), encode_mask(THINGS[target].mask), (), rule)
        for question, references, target, rule in rounds
    )
    return DialogueRecord("x", Path("x.png"), 60, 60, made, tuple(thing.record() for thing in THINGS))


CAP_OF_RED = {"words": ["cap"], "relation": PART, "whole": ["red", "square"]}
BASE_BESIDE = {"words": ["base"], "relation": SIBLING}
FIRST = ("the cap of the red square", (), CAP, CAP_OF_RED)


def test_a_part_of_a_named_thing_and_a_sibling_by_its_pronoun_are_proved() -> None:
    belongs = ("the square that this base belongs to", (2,), RED, {"words": ["square"], "relation": WHOLE})
    assert prove(record(FIRST, ("its base", (1,), BASE, BASE_BESIDE), belongs)) == []


@pytest.mark.parametrize(
    ("rounds", "words"),
    [
        ([(*FIRST[:3], CAP_OF_RED | {"whole": ["square"]})], "its whole, 'square', is no single thing"),
        ([(*FIRST[:3], CAP_OF_RED | {"whole": ["green", "square"]})], "does not mean its target alone"),
        ([("the cap of the square", (), CAP, CAP_OF_RED)], "does not say its rule"),
        ([(*FIRST[:3], CAP_OF_RED | {"whole": [3]})], r"does not go with the whole \[3\]"),
        ([(*FIRST[:3], CAP_OF_RED | {"relation": "next to"})], "'next to' does not go with the whole"),
        ([(*FIRST[:3], {"words": ["cap"], "relation": PART})], "'part of' goes with 0 references"),
        ([FIRST, ("the base", (1,), BASE, BASE_BESIDE)], "does not say its rule"),
        ([FIRST, ("its base", (1,), BASE, BASE_BESIDE | {"relation": PART})], "does not mean its target alone"),
        (
            [FIRST, ("the cap of instance 1", (1,), CAP, CAP_OF_RED)],
            "'part of' goes with 1 references",
        ),
        (
            [FIRST, ("the green square", (), GREEN, {"words": ["green"], "relation": ""}),
             ("its base", (1,), BASE, BASE_BESIDE)],
            "does not say its rule",  # "its" would be the green square's
        ),
    ],
)  # fmt: skip
def test_the_proof_finds_wrong_words_about_parts(
    rounds: list[tuple[str, tuple[int, ...], int, dict[str, Any]]], words: str
) -> None:
    assert any(re.search(words, fault) for fault in prove(record(*rounds)))


def test_siblings_are_not_cut_to_what_they_refer_to() -> None:
    siblings = [
        one.asked
        for seed in range(10)
        for one in make_rounds(THINGS, np.random.default_rng(seed), 6, general="shape", all_of_parts=True)
        if one.rule is not None and one.rule["relation"] == SIBLING
    ]
    assert siblings and all(asked.references and asked.parents == () for asked in siblings)
