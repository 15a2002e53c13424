"""What a typed question refers to, and which markers are refused."""

from __future__ import annotations

import pytest

from seg_zero.dialogue.references import HIERARCHICAL, Asked, read_question, write_question
from seg_zero.errors import InputError


@pytest.mark.parametrize(
    ("line", "question", "references"),
    [
        ("the cup", "the cup", ()),
        ("[REF:1] its handle", "its handle", (1,)),
        ("its handle [REF:2]", "its handle", (2,)),
        ("a [REF:3]  b", "a b", (3,)),
        ("[REF:12]y", "y", (12,)),
        ("[REF:1,3] what is between them", "what is between them", (1, 3)),
        ("[REF: 1 , 3 ] x", "x", (1, 3)),
        ("[ref:2] x", "x", (2,)),
        ("[REF:1] and [REF:2]", "and", (1, 2)),
        ("[REF:1][REF:1] x", "x", (1,)),
        ("the hair of instance 1", "the hair of instance 1", (1,)),
        ("between instances 1, 2 and 4", "between instances 1, 2 and 4", (1, 2, 4)),
        ("[REF:3] left of Instance 1", "left of Instance 1", (3, 1)),
        ("an instance of a cup, 3 of them", "an instance of a cup, 3 of them", ()),
        ("look [here] at the cup", "look [here] at the cup", ()),
        ("the [reflection] of it", "the [reflection] of it", ()),
    ],
)
def test_markers_and_words_name_rounds(line: str, question: str, references: tuple[int, ...]) -> None:
    assert read_question(line) == Asked(question, references)


@pytest.mark.parametrize(
    "line", ["[REF:]", "[REF:-1] q", "[REF:a] q", "[REF:1 q", "q [REF:1", "[REF 1] q", "[REF:1;2] q"]
)
def test_a_malformed_marker_is_refused_with_its_text(line: str) -> None:
    with pytest.raises(InputError, match=r"the marker '\[REF.* cannot be read; write \[REF:1\]"):
        read_question(line)


@pytest.mark.parametrize("references", [(0,), (-1,), (True,), ("1",)])
def test_a_reference_that_is_no_round_is_refused(references: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="is no round"):
        read_question("the cup", references)


@pytest.mark.parametrize("line", ["[REF:0] x", "left of instance 0"])
def test_rounds_count_from_one(line: str) -> None:
    with pytest.raises(InputError, match="reference 0 is no round"):
        read_question(line)


@pytest.mark.parametrize(
    ("line", "relation", "excluded", "parents"),
    [
        ("all cups excluding instance 2", "", (2,), ()),
        ("all cups except for instances 1 and 3", "", (1, 3), ()),
        ("all cups but not instance 2", "", (2,), ()),
        ("the lid, part of instance 1", "", (), (1,)),
        ("what lies inside instance 1 without instance 2", "", (2,), (1,)),
        ("the lid of instance 1", HIERARCHICAL, (), (1,)),
        ("[REF:1] the lid excluding instance 2", HIERARCHICAL, (2,), (1,)),
        ("left of instance 1", "relational", (), ()),
    ],
)
def test_set_rules_are_read_from_the_words_and_the_relation(
    line: str, relation: str, excluded: tuple[int, ...], parents: tuple[int, ...]
) -> None:
    asked = read_question(line, relation=relation)
    assert (asked.excluded, asked.parents) == (excluded, parents)


@pytest.mark.parametrize("asked", [Asked("the cup"), Asked("its lid", (1, 3)), Asked("left of instance 2", (1, 2))])
def test_a_written_question_reads_back(asked: Asked) -> None:
    back = read_question(write_question(asked))
    assert back.question == asked.question and set(back.references) == set(asked.references)
