"""Which dialogues a run uses, and earlier answers to them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg_zero.dialogue.data.records import DialogueRecord, TrueRound, write_dialogues
from seg_zero.dialogue.references import read_question
from seg_zero.errors import InputError
from seg_zero.masks import encode_mask
from seg_zero.training.dialogue.scripts import bad_dialogues, count, earlier_answers, scripts_of
from seg_zero.training.settings import DialogueSettings

SETTINGS = DialogueSettings("conversations", "text", "all", 6, 0.0, None, 0.0)
QUESTIONS = ["the left one", "right of instance 1", "between instances 1 and 2"]


def rle(x: int) -> dict[str, Any]:
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:15, x : x + 10] = True
    return encode_mask(mask)


def write_file(folder: Path, name: str = "talks.jsonl", questions: list[str] = QUESTIONS) -> Path:
    Image.new("RGB", (60, 40)).save(folder / "a.png")
    rounds = tuple(TrueRound(read_question(text), rle(10 * place)) for place, text in enumerate(questions))
    path = folder / name
    write_dialogues(path, [DialogueRecord(f"talk-{n}", folder / "a.png", 60, 40, rounds) for n in range(2)])
    return path


def write_answers(path: Path, **changes: Any) -> Path:
    rounds = [{"question": text, "mask": rle(20), **changes} for text in QUESTIONS]
    lines = [json.dumps({"id": f"talk-{n}", "rounds": {"true": [], "predicted": rounds}}) for n in range(2)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_dialogues_are_cut_and_counted(tmp_path: Path) -> None:
    path = str(write_file(tmp_path))
    scripts = scripts_of([path, path], SETTINGS, -1, None)
    assert [(one.source, one.row, len(one.dialogue.rounds)) for one in scripts] == [(path, n, 3) for n in (0, 1, 0, 1)]
    short = replace(SETTINGS, max_rounds=2)
    assert [len(one.dialogue.rounds) for one in scripts_of(path, short, 1, None)] == [2]
    assert count(scripts, SETTINGS) == 4 and count(scripts, replace(SETTINGS, rows="rounds")) == 12


def test_records_that_cannot_be_used_are_skipped_only_where_that_was_asked(tmp_path: Path) -> None:
    path = write_file(tmp_path)
    path.write_text('{"id": "broken"}\n' + path.read_text())
    with pytest.raises(InputError, match=r"record 1 \(broken\)"):
        scripts_of(str(path), SETTINGS, -1, None)
    (bad,) = bad_dialogues(str(path))[str(path)]
    assert bad.number == 1
    skipped = tmp_path / "bad.json"
    skipped.write_text(json.dumps({str(path): [0]}))
    assert [one.dialogue.id for one in scripts_of(str(path), SETTINGS, -1, str(skipped))] == ["talk-0", "talk-1"]


def test_what_is_no_file_of_dialogues_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jsonl is no file of dialogues"):
        scripts_of(str(tmp_path / "gone.jsonl"), SETTINGS, -1, None)


def test_more_references_than_crops_are_refused(tmp_path: Path) -> None:
    many = ["a", "b", "c", "d", "e", "beside instances 1, 2, 3, 4 and 5"]
    path = str(write_file(tmp_path, questions=many))
    assert scripts_of(path, SETTINGS, -1, None)
    with pytest.raises(InputError, match="talk-0: round 6 refers to 5 objects, more than the 4 pictures"):
        scripts_of(path, replace(SETTINGS, references="crop"), -1, None)


def test_earlier_answers_are_those_of_predicted_history(tmp_path: Path) -> None:
    scripts = scripts_of(str(write_file(tmp_path)), SETTINGS, -1, None)
    write_answers(tmp_path / "dialogues.jsonl")
    for place in (tmp_path, tmp_path / "dialogues.jsonl"):
        assert earlier_answers(str(place), scripts) == {f"talk-{n}": [rle(20)] * 3 for n in range(2)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": "another"}, "has no answer to round 1 of dialogue talk-0"),
        (
            {"mask": {"size": [4, 4], "counts": "0"}},
            "the mask of round 1 of dialogue talk-0 is not of the picture's size",
        ),
        ({"mask": 3}, "is no evaluation of dialogues"),
    ],
)
def test_answers_to_other_dialogues_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    scripts = scripts_of(str(write_file(tmp_path)), SETTINGS, -1, None)
    with pytest.raises(InputError, match=message):
        earlier_answers(str(write_answers(tmp_path / "answers.jsonl", **changes)), scripts)


def test_an_evaluation_that_is_missing_or_something_else_is_refused(tmp_path: Path) -> None:
    scripts = scripts_of(str(write_file(tmp_path)), SETTINGS, -1, None)
    with pytest.raises(InputError, match="cannot be read"):
        earlier_answers(str(tmp_path / "gone"), scripts)
    (tmp_path / "text").write_text("no json\n")
    with pytest.raises(InputError, match="is no evaluation of dialogues"):
        earlier_answers(str(tmp_path / "text"), scripts)
