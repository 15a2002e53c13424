"""Generated dialogues: relations with margins, unique targets, and a proof that finds what is not unique."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_zero.dialogue.data.generate import FORMS, PHRASES, make_rounds
from seg_zero.dialogue.data.proof import prove, with_proofs
from seg_zero.dialogue.data.records import (
    DialogueRecord,
    Reading,
    TrueRound,
    read_dialogues,
    record_of,
    write_dialogues,
)
from seg_zero.dialogue.data.relations import (
    BETWEEN,
    NO,
    OTHER,
    PART,
    PLAIN,
    POSITIONS,
    UNCLEAR,
    YES,
    Thing,
    meant,
    relates,
)
from seg_zero.dialogue.data.synthetic import SEEDS, make_dialogue, make_dialogues
from seg_zero.dialogue.references import HIERARCHICAL, read_question
from seg_zero.errors import InputError


def thing(
    x: int, y: int, width: int = 10, height: int = 10, words: str = "red square", part_of: int | None = None
) -> Thing:
    mask = np.zeros((100, 100), dtype=bool)
    mask[y : y + height, x : x + width] = True
    return Thing(tuple(words.split()), mask, part_of)


MIDDLE = thing(45, 45)


@pytest.mark.parametrize(
    ("relation", "other", "answer"),
    [
        ("left of", thing(20, 45), YES),
        ("left of", thing(42, 45), UNCLEAR),  # off by less than half of the side
        ("left of", thing(45, 20), NO),
        ("left of", thing(60, 45), NO),
        ("left of", thing(36, 30, 40, 40), NO),  # its centre is to the right
        ("left of", thing(30, 44, 21, 12), UNCLEAR),  # they overlap
        ("right of", thing(60, 45), YES),
        ("above", thing(45, 20), YES),
        ("below", thing(45, 20), NO),
        ("below", thing(45, 60), YES),
        ("next to", thing(57, 45), YES),
        ("next to", thing(62, 45), UNCLEAR),
        ("next to", thing(80, 45), NO),
    ],
)
def test_positions_have_margins(relation: str, other: Thing, answer: str) -> None:
    assert relates([other, MIDDLE], relation, 0, [1]) == answer


@pytest.mark.parametrize(
    ("x", "y", "answer"), [(45, 45, YES), (45, 55, YES), (45, 66, UNCLEAR), (45, 85, NO), (5, 45, NO)]
)
def test_between_is_near_the_middle(x: int, y: int, answer: str) -> None:
    things = [thing(x, y), thing(15, 45), thing(75, 45)]
    assert relates(things, BETWEEN, 0, [1, 2]) == answer


def test_one_is_meant_or_none() -> None:
    things = [MIDDLE, thing(20, 45), thing(70, 45), thing(47, 47, 4, 4, "blue core", 0)]
    assert meant(things, ("red",), "left of", [0]) == 1
    assert meant(things, ("red",), PLAIN, []) is None  # three of them
    assert meant(things, (), PART, [0]) == 3
    assert meant(things, ("blue",), "next to", [0]) is None  # a part has no place to its whole
    assert meant([MIDDLE, things[1]], ("square",), OTHER, [0]) == 1
    assert meant([*things, thing(42, 70)], ("red",), "left of", [0]) is None  # in doubt about the last one
    with pytest.raises(ValueError, match="there is no relation 'behind'"):
        meant(things, ("red",), "behind", [0])


@pytest.mark.parametrize("parts", [False, True])
def test_every_target_of_a_synthetic_dialogue_is_unique(parts: bool) -> None:
    seen = set()
    for number in range(25):
        image, found = make_dialogue(SEEDS["train"], number, parts=parts)
        assert image.size == (found.width, found.height) and 2 <= len(found.rounds) <= 6
        assert prove(found) == []
        targets = [one.truth() for one in found.rounds]
        assert all(not np.array_equal(a, b) for n, a in enumerate(targets) for b in targets[:n])
        for place, one in enumerate(found.rounds):
            assert one.rule is not None
            seen.add(one.rule["relation"])
            assert all(number <= place for number in one.asked.references)
            assert set(read_question(one.asked.question).references) == set(one.asked.references)
            _holds_in_pixels(str(one.rule["relation"]), targets[place], [targets[n - 1] for n in one.asked.references])
    assert {PLAIN, OTHER, *POSITIONS} <= seen
    assert (PART in seen) == parts


def _holds_in_pixels(relation: str, mask: np.ndarray, references: list[np.ndarray]) -> None:
    """The relation, seen in the masks themselves."""
    (y, x), others = (
        (axis.mean() for axis in np.nonzero(mask)),
        [np.argwhere(other).mean(axis=0) for other in references],
    )
    if relation in ("left of", "right of"):
        assert (x < others[0][1]) == (relation == "left of")
    elif relation in ("above", "below"):
        assert (y < others[0][0]) == (relation == "above")
    elif relation == PART:
        assert not (mask & ~references[0]).any()


def test_a_dialogue_depends_on_its_seed_and_number_alone() -> None:
    first, again, other = (make_dialogue(12, 4), make_dialogue(12, 4), make_dialogue(12, 5))
    assert first[1].rounds == again[1].rounds and np.array_equal(np.asarray(first[0]), np.asarray(again[0]))
    assert first[1].rounds != other[1].rounds


def test_parts_are_hierarchical_and_forms_wrap_the_phrase() -> None:
    things = [MIDDLE, thing(47, 47, 4, 4, "blue core", 0)]
    rng = np.random.default_rng(0)
    rounds = make_rounds(things, rng, 4, forms="lisa", general="shape")
    assert [one.asked.relation for one in rounds] == ["", HIERARCHICAL]
    assert " of instance 1 in this image" in rounds[1].asked.question and "core" in rounds[1].asked.question
    for name, forms in FORMS.items():
        assert all("{phrase}" in form for form in forms)
        # A form must not read as a reference or rule of its own ("without instance 1").
        for form in forms:
            asked = read_question(form.replace("{phrase}", "the core of instance 1"))
            assert (asked.references, asked.excluded) == ((1,), ()), name
    assert all("{x}" in phrase for phrases in PHRASES.values() for phrase in phrases)
    with pytest.raises(InputError, match="forms 'poem' are not known; choose one of own, sentences, lisa, sesame"):
        make_rounds(things, rng, 4, forms="poem")


@pytest.mark.parametrize("forms", FORMS)
def test_every_form_keeps_the_proof(forms: str) -> None:
    for number in range(4):
        found = make_dialogue(SEEDS["train"], number, parts=True, forms=forms)[1]
        assert prove(found) == []


def test_without_a_general_noun_the_things_own_noun_is_always_said() -> None:
    things = [
        thing(10, 10, words="dog"),
        thing(60, 10, words="dog"),
        thing(10, 60, words="cat"),
        thing(60, 60, words="hat"),
    ]
    for seed in range(10):
        for one in make_rounds(things, np.random.default_rng(seed), 4):
            assert any(word in one.asked.question for word in ("dog", "cat", "hat"))


def first_of(folder: Path) -> DialogueRecord:
    return next(item for item in make_dialogues(folder, 12, 20) if len(item.rounds) > 2)


def test_a_file_holds_all_that_the_proof_needs(tmp_path: Path) -> None:
    made = list(make_dialogues(tmp_path / "images", 12, 3, parts=True))
    write_dialogues(tmp_path / "d.jsonl", made)
    read = read_dialogues(tmp_path / "d.jsonl")
    assert read.bad == [] and [prove(item) for item in read.dialogues] == [[], [], []]
    assert read.dialogues == made and made[0].picture().size == (112, 112)


def changed(item: DialogueRecord, place: int, **changes: Any) -> DialogueRecord:
    rounds = list(item.rounds)
    rounds[place] = replace(rounds[place], **changes)
    return replace(item, rounds=tuple(rounds))


def test_the_proof_finds_what_is_not_unique(tmp_path: Path) -> None:
    good = first_of(tmp_path)
    last = good.rounds[1]
    assert last.rule is not None
    twin = next(thing for thing in good.things if thing["mask"] != last.mask)
    wrong = {
        "does not mean its target alone": changed(good, 0, mask=last.mask),
        "does not say its rule": changed(good, 1, asked=read_question("the shape", last.asked.references)),
        "goes with 1 references": changed(good, 1, rule={"words": [], "relation": ""}),
        "no words or no relation": changed(good, 1, rule={"words": "red"}),
        "there is no relation 'behind'": changed(good, 1, rule={"words": [], "relation": "behind"}),
        "is no single thing": replace(good, things=(*good.things, twin, twin)),
        "a thing of the picture": replace(good, things=({**twin, "mask": {"size": [112, 112], "counts": "0"}},)),
    }
    for words, item in wrong.items():
        assert any(words in fault for fault in prove(item)), words
    reading = with_proofs(Reading("x", [good, *wrong.values()]))
    assert reading.dialogues == [good] and [bad.number for bad in reading.bad] == [2, 3, 4, 5, 6, 7, 8]


def test_rounds_without_a_rule_need_no_proof(tmp_path: Path) -> None:
    good = first_of(tmp_path)
    plain = tuple(TrueRound(one.asked, one.mask) for one in good.rounds)
    assert prove(replace(good, rounds=plain, things=())) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"words": []}, "are no list of texts"),
        ({"part_of": 99}, "part_of 99 is no number of a thing"),
        ({"mask": {"size": [1, 1], "counts": "1"}}, "thing 0 (orange diamond): a mask is of 1x1 pixels"),
    ],
)
def test_things_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    record = record_of(first_of(tmp_path), tmp_path)
    record["things"][0] |= change
    (tmp_path / "d.jsonl").write_text(json.dumps(record))
    (bad,) = read_dialogues(tmp_path / "d.jsonl").bad
    assert words in bad.reason
