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
        (record(image="a" * 3000), "aaa' does not exist"),
        (record(image="a\0.png"), "does not exist"),
        (record(image=5), "image is a JSON number, not the name of a file"),
        (record(image=""), "image is empty, not the name of a file"),
        (record(image="damaged.png"), "damaged.png cannot be read"),
        (record(width=12, height=20), "image 'a.png' has 20x12 pixels, the record 12x20"),
        (record(width=10**6, height=10**6), "it has 1000000x1000000 pixels; the limit is 120,000,000"),
        (record(id=None), "its id is a JSON null, not text"),
        (record(id=["one"]), "its id is a JSON list, not text"),
        (record(id=" "), "its id is empty"),
        (record(rounds=5), "rounds is a JSON number, not a list"),
        (record(rounds=["the mug"]), "round 1: it is a JSON text, not an object"),
        (record(rounds=rounds(references=1)), "round 2: references is a JSON number, not a list"),
        (record(rounds=rounds(references=[[1]])), "round 2: references [[1]] are no list of rounds"),
        (record(rounds=rounds(relation=5)), "round 2: its relation is a JSON number, not text"),
        (record(rounds=rounds(rule="x")), "round 2: its rule is a JSON text, not an object"),
        (record(rounds=rounds(given=5)), "round 2: given is a JSON number, not a list"),
        (record(rounds=rounds(mask="x")), "round 2: a mask is a JSON text, not an object"),
        (record(rounds=rounds(mask={"counts": "1"})), "round 2: 'size' is missing"),
        *(
            (record(rounds=rounds(mask=RLE | {"size": size})), f"round 2: the size {json.dumps(size)} of a mask is not")
            for size in ([], [1], "x", None, [12.0, 20], 5)
        ),
        *(
            (record(rounds=rounds(mask=RLE | {"counts": counts})), f"round 2: the counts {json.dumps(counts)} of")
            for counts in (None, 5, "é")
        ),
        (record(rounds=rounds(mask=RLE | {"counts": [1, 2]})), "round 2: its run lengths cover 3 pixels"),
        (record(rounds=rounds(mask=RLE | {"counts": [1.5]})), "round 2: its run lengths hold something other"),
        (record(things=5), "things is a JSON number, not a list"),
        (record(things=[5]), "thing 0 is a JSON number, not an object"),
        (record(things=[{"words": "mug", "mask": RLE}]), 'the words "mug" of thing 0 are no list of texts'),
        (record(things=[{"words": ["mug"]}]), "'mask' is missing"),
        (record(things=[{"words": ["mug"], "mask": None}]), "thing 0 (mug): a mask is a JSON null"),
        (record(things=[{"words": ["mug"], "mask": {"size": [12, 20]}}]), "thing 0 (mug): 'counts' is missing"),
        (record(things=[{"words": ["mug"], "mask": RLE | {"counts": None}}]), "thing 0 (mug): the counts null"),
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
    (folder / "damaged.png").write_bytes(b"no picture")
    (folder / "d.jsonl").write_text("\n".join([json.dumps(record()), text, json.dumps(record(id="three"))]))
    found = read_dialogues(folder / "d.jsonl")
    assert [item.id for item in found.dialogues] == ["one", "three"]
    (bad,) = found.bad
    assert bad.number == 2 and bad.line().startswith("record 2") and reason in bad.line()
    with pytest.raises(InputError, match="correct or remove the record"):
        found.usable()


def test_plain_run_lengths_are_read(folder: Path) -> None:
    flat = MASK.T.ravel()
    ends = [0, *(np.flatnonzero(flat[1:] != flat[:-1]) + 1), flat.size]
    plain = {"size": [12, 20], "counts": [int(run) for run in np.diff(ends)]}
    thing = {"words": ["mug"], "mask": plain}
    (folder / "d.jsonl").write_text(json.dumps(record(rounds=rounds(mask=plain, given=[plain]), things=[thing])))
    (found,) = read_dialogues(folder / "d.jsonl").usable()
    assert found.rounds[1].mask == found.rounds[1].given[0] == found.things[0]["mask"] == RLE


def test_a_picture_that_cannot_be_decoded_names_its_dialogue(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    (folder / "d.jsonl").write_text(json.dumps(record()))
    (found,) = read_dialogues(folder / "d.jsonl").usable()
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:200])
    with pytest.raises(InputError, match=r"dialogue one: image .*a\.png cannot be read"):
        found.picture()


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
        ({"masks": {"a": 1}}, "turn 2: masks is a JSON object, not a list"),
        ({"masks": [[[0, 1], [0]]]}, "turn 2: the mask is no array of 0 and 1 of 12 rows"),
        ({"masks": [["01" * 6] * 12]}, "turn 2: the mask is no array of 0 and 1 of 12 rows"),
        ({"masks": [{"size": [12, 20], "counts": 5}]}, "turn 2: its run lengths are neither a list nor compressed"),
        ({"question": 3}, "turn 2: the question is a JSON number, not text"),
    ],
)
def test_malformed_turns_are_told(folder: Path, change: dict[str, Any], reason: str) -> None:
    turns = [TURNS[0], TURNS[1] | change]
    records = [{"image_id": 7, "image_path": "a.png", "conversational_turns": turns}, {"image_path": "z.png"}, 5]
    found = read_each("x", records, lambda number, item: dialogue_of_turns(item, number, folder))
    assert [bad.number for bad in found.bad] == [1, 2, 3] and reason in found.bad[0].reason
    assert "image 'z.png' does not exist" in found.bad[1].reason
    assert found.bad[2].reason == "it is a JSON number, not an object"
