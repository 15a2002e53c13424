"""Files of dialogues: read, written, and what of them is refused by number and reason; RegionReasoner's turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg_zero.dialogue.data.records import is_dialogue_file, read_dialogues, read_each, write_dialogues
from seg_zero.dialogue.data.regiondial import PLACEHOLDER, dialogue_of_turns
from seg_zero.errors import InputError
from seg_zero.masks import encode_mask

MASK = np.zeros((12, 20), dtype=bool)
MASK[2:6, 3:9] = True
RLE = encode_mask(MASK)


def record(**changes: Any) -> dict[str, Any]:
    rounds = [
        {"question": "the mug", "mask": RLE},
        {"question": "its lid", "references": [1], "relation": "hierarchical", "mask": RLE, "given": [RLE]},
    ]
    return {"id": "one", "image": "a.png", "width": 20, "height": 12, "rounds": rounds} | changes


def rounds(**changes: Any) -> list[dict[str, Any]]:
    return [{"question": "the mug", "mask": RLE}, {"question": "its lid", "references": [1], "mask": RLE} | changes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (20, 12), "red").save(tmp_path / "a.png")
    return tmp_path


def test_a_written_file_reads_back(folder: Path) -> None:
    path = folder / "d.jsonl"
    path.write_text(json.dumps(record()) + "\n\n")
    found = read_dialogues(path)
    assert found.bad == [] and found.rounds == 2
    (first,) = found.usable()
    assert first.rounds[1].asked.references == (1,) and np.array_equal(first.rounds[0].truth(), MASK)
    assert first.picture().size == (20, 12)
    assert write_dialogues(folder / "again.jsonl", found.dialogues) == 1
    assert read_dialogues(folder / "again.jsonl").dialogues == found.dialogues
    assert json.loads((folder / "again.jsonl").read_text())["image"] == "a.png"
    assert (
        is_dialogue_file(path) and not is_dialogue_file(folder / "a.png") and not is_dialogue_file(folder / "no.jsonl")
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1", "it is not JSON"),
        ("[1]", "it is a JSON list, not an object"),
        (record(image="b.png"), "image 'b.png' does not exist"),
        (record(width=0), "width 0 and height 12 are not pixels"),
        (record(rounds=[]), "it has no rounds"),
        ({"id": "one"}, "'width' is missing"),
        (record(rounds=rounds(question="?!")), "round 2: the question '?!' is empty"),
        (record(rounds=rounds(question="a \udce9 lid")), "round 2: the question holds half a character"),
        (record(rounds=rounds(references=[2])), "round 2: the question refers to round 2, but there is only round 1"),
        (record(rounds=rounds(question="[REF:x] it")), "round 2: the marker '[REF:x]' cannot be read"),
        (record(rounds=rounds(mask={"size": [1, 2], "counts": "02"})), "round 2: a mask is of 2x1 pixels"),
        (record(rounds=rounds(mask={"size": [12, 20], "counts": "0"})), "round 2: its run lengths cover"),
        (record(rounds=[{"question": "the mug"}]), "round 1: 'mask' is missing"),
        (record(rounds=rounds(given=[{"size": [1, 1], "counts": "1"}])), "round 2: a mask is of 1x1 pixels"),
    ],
)
def test_bad_records_are_listed_by_number_and_reason(folder: Path, line: Any, reason: str) -> None:
    text = line if isinstance(line, str) else json.dumps(line)
    (folder / "d.jsonl").write_text("\n".join([json.dumps(record()), text, json.dumps(record(id="three"))]))
    found = read_dialogues(folder / "d.jsonl")
    assert [item.id for item in found.dialogues] == ["one", "three"]
    (bad,) = found.bad
    assert bad.number == 2 and bad.line().startswith("record 2") and reason in bad.line()
    with pytest.raises(InputError, match="correct or remove the record"):
        found.usable()


def test_files_that_hold_nothing_are_refused(folder: Path) -> None:
    (folder / "d.jsonl").write_text("")
    with pytest.raises(InputError, match="holds no dialogue"):
        read_dialogues(folder / "d.jsonl").usable()
    with pytest.raises(InputError, match="cannot be read"):
        read_dialogues(folder / "none.jsonl")


TURNS = [
    {"question": "the mug", "bboxes": [[3, 2, 9, 6]], "masks": [MASK.astype(int).tolist()], "ann_ids": [1]},
    {
        "question": f"what is left of {PLACEHOLDER}?",
        "context_from_turn": 0,
        "masks": [RLE],
        "bboxes": [],
        "ann_ids": [],
    },
    {"question": "its lid", "context_from_turn": 1, "masks": [MASK.tolist()]},
]


def test_turns_of_regionreasoner_become_dialogues(folder: Path) -> None:
    found = dialogue_of_turns({"image_id": 7, "image_path": "a.png", "conversational_turns": TURNS}, 3, folder)
    assert (found.id, found.width, found.height) == ("7-3", 20, 12)
    assert [(item.asked.question, item.asked.references) for item in found.rounds] == [
        ("the mug", ()),
        ("what is left of instance 1?", (1,)),
        ("its lid", (2,)),
    ]
    assert all(np.array_equal(item.truth(), MASK) for item in found.rounds)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"context_from_turn": 1}, "turn 2: context_from_turn 1 is no earlier turn"),
        ({"context_from_turn": -1}, "turn 2: context_from_turn -1 is no earlier turn"),
        ({"context_from_turn": None}, "has the box of an earlier turn, but names none"),
        ({"masks": []}, "turn 2: it has no mask"),
        ({"masks": [[[0, 2]]]}, "turn 2: the mask is no array of 0 and 1 of 12 rows"),
        ({"question": 3}, "turn 2: the question is a int"),
    ],
)
def test_malformed_turns_are_told(folder: Path, change: dict[str, Any], reason: str) -> None:
    turns = [TURNS[0], TURNS[1] | change]
    records = [{"image_id": 7, "image_path": "a.png", "conversational_turns": turns}, {"image_path": "z.png"}, 5]
    found = read_each("x", records, lambda number, item: dialogue_of_turns(item, number, folder))
    assert [bad.number for bad in found.bad] == [1, 2, 3] and reason in found.bad[0].reason
    assert "image 'z.png' does not exist" in found.bad[1].reason
