"""Dialogues evaluated with true and predicted history: scripted predictors, resuming, and the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg_zero.cli.main import main
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.dialogue.data.records import DialogueRecord, TrueRound, write_dialogues
from seg_zero.dialogue.references import Asked
from seg_zero.errors import InputError
from seg_zero.evaluation.dialogues import (
    HISTORIES,
    NATIVE,
    PART_DIALOGUES,
    PREDICTED,
    TRUE,
    Guess,
    Predictor,
    Question,
    evaluate_dialogues,
)
from seg_zero.masks import encode_mask

SIZE = (40, 30)


def block(x: int, y: int, side: int = 8) -> np.ndarray:
    mask = np.zeros((SIZE[1], SIZE[0]), dtype=bool)
    mask[y : y + side, x : x + side] = True
    return mask


def dialogues_in(folder: Path, count: int = 3) -> list[DialogueRecord]:
    """Dialogues of 1, 2, 3, 1 ... rounds; each round refers to the one before."""
    Image.new("RGB", SIZE, "navy").save(folder / "a.png")
    made = []
    for number in range(count):
        rounds = [
            TrueRound(
                Asked(f"block {place}", (place - 1,) if place > 1 else ()), encode_mask(block(place * 6, number % 9))
            )
            for place in range(1, number % 3 + 2)
        ]
        made.append(DialogueRecord(f"d{number}", folder / "a.png", *SIZE, tuple(rounds)))
    return made


class Scripted:
    """Answers by a rule and remembers what it was asked."""

    def __init__(self, dialogues: Sequence[DialogueRecord], rule: str) -> None:
        self._dialogues, self._rule = dialogues, rule
        self.asked: list[Question] = []
        self.parts = 0

    def begin(self, pictures: dict[int, Image.Image]) -> None:
        assert all(picture.size == SIZE for picture in pictures.values())
        self.parts += 1

    def answer(self, questions: Sequence[Question]) -> list[Guess]:
        self.asked += questions
        return [self._one(question) for question in questions]

    def _one(self, question: Question) -> Guess:
        truth = self._dialogues[question.dialogue].rounds[question.number - 1].truth()
        if self._rule == "perfect":
            return Guess(truth[None], "one line\u2028of\x85text")  # which end a line in Unicode, but none of the file
        if self._rule == "empty":
            return Guess(truth[None][:0])
        if self._rule == "broken":
            return Guess(truth[None][:0], "no answer", "no <answer>...</answer> block")
        # Off by four pixels at first, and later right if what it refers to is right.
        if question.number == 1:
            return Guess(np.roll(truth, 4, axis=1)[None])
        number = question.asked.references[0]
        earlier = self._dialogues[question.dialogue].rounds[number - 1].truth()
        right = np.array_equal(question.instances[number - 1].mask, earlier)
        return Guess((truth if right else np.roll(truth, 4, axis=1))[None])


def run(folder: Path, rule: str, count: int = 3) -> tuple[Any, Scripted]:
    dialogues = dialogues_in(folder, count)
    predictor = Scripted(dialogues, rule)
    results, _ = evaluate_dialogues(lambda: predictor, {"rule": rule}, dialogues, folder / "out")
    return results, predictor


def test_a_perfect_predictor_gives_equal_columns_of_one(tmp_path: Path) -> None:
    results, _ = run(tmp_path, "perfect")
    assert results[TRUE] == results[PREDICTED]
    for counted in results[TRUE].values():
        for number, count in (("1", 3), ("2", 2), ("3", 1), ("all", 6)):
            assert counted[number] == {"cIoU": 1.0, "mIoU": 1.0, "P@0.5": 1.0, "count": count}
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == results


@pytest.mark.parametrize("rule", ["empty", "broken"])
def test_a_predictor_without_an_answer_leaves_the_denominators_whole(tmp_path: Path, rule: str) -> None:
    results, predictor = run(tmp_path, rule)
    assert results[TRUE] == results[PREDICTED]
    for counted in results[PREDICTED].values():
        counts = {number: values.pop("count") for number, values in counted.items()}
        assert counts == {"1": 3, "2": 2, "3": 1, "all": 6}
        assert all(value == 0.0 for values in counted.values() for value in values.values())
    found = {TRUE: set(), PREDICTED: set()}
    later = [question for question in predictor.asked if question.number > 1]
    for place, question in enumerate(later):
        found[HISTORIES[0 if question.instances[0].found else 1]].add(place)
    assert len(found[TRUE]) == len(found[PREDICTED]) == 3


def test_errors_grow_with_predicted_history_alone(tmp_path: Path) -> None:
    results, _ = run(tmp_path, "chain")
    assert [results[TRUE][NATIVE][number]["mIoU"] for number in "123"] == [pytest.approx(1 / 3), 1.0, 1.0]
    assert [results[PREDICTED][NATIVE][number]["mIoU"] for number in "123"] == [pytest.approx(1 / 3)] * 3


def test_a_first_round_is_asked_once_and_later_ones_once_a_history(tmp_path: Path) -> None:
    _, predictor = run(tmp_path, "perfect")
    assert sorted(question.number for question in predictor.asked) == [1, 1, 1, 2, 2, 2, 2, 3, 3]


def test_an_interrupted_evaluation_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    dialogues = dialogues_in(tmp_path, PART_DIALOGUES + 2)
    whole = Scripted(dialogues, "chain")
    evaluate_dialogues(lambda: whole, {}, dialogues, tmp_path / "whole")

    class Dying(Scripted):
        def begin(self, pictures: dict[int, Image.Image]) -> None:
            super().begin(pictures)
            if self.parts == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_dialogues(lambda: Dying(dialogues, "chain"), {}, dialogues, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "parts").iterdir()] == ["00000.jsonl"]
    rest, seen = Scripted(dialogues, "chain"), []
    evaluate_dialogues(
        lambda: rest, {}, dialogues, tmp_path / "out", lambda played, old: seen.append((len(played), old))
    )
    assert rest.parts == 1 and {question.dialogue for question in rest.asked} == {16, 17}
    assert seen == [(16, True), (2, False)]
    for name in ("dialogues.jsonl", "metrics.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    path = tmp_path / "out" / "parts" / "00000.jsonl"
    path.write_text(path.read_text()[:-40])
    again = Scripted(dialogues, "chain")
    evaluate_dialogues(lambda: again, {}, dialogues, tmp_path / "out")
    assert {question.dialogue for question in again.asked} == set(range(16))

    def unused() -> Predictor:
        raise AssertionError("all is answered")

    evaluate_dialogues(unused, {}, dialogues, tmp_path / "out")
    with pytest.raises(InputError, match="other settings"):
        evaluate_dialogues(unused, {"references": "crop"}, dialogues, tmp_path / "out")


def test_what_ends_a_line_in_unicode_does_not_cost_an_answer(tmp_path: Path) -> None:
    run(tmp_path, "perfect")
    _, again = run(tmp_path, "perfect")
    assert again.asked == []


def test_pictures_that_do_not_fit_and_no_dialogues_are_refused(tmp_path: Path) -> None:
    dialogues = dialogues_in(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="has 4x4 pixels, and dialogue d0 40x30"):
        evaluate_dialogues(lambda: Scripted(dialogues, "perfect"), {}, dialogues, tmp_path / "out")
    with pytest.raises(InputError, match="no dialogues"):
        evaluate_dialogues(lambda: Scripted([], "perfect"), {}, [], tmp_path / "none")


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """Two synthetic pictures with a dialogue of two rounds each."""
    dialogues = []
    for number, sample in enumerate(make_samples(12, 2, kinds=("attr",))):
        path = tmp_path / f"{number}.png"
        sample.scene.image.save(path)
        rounds = (
            TrueRound(Asked(sample.question.text), encode_mask(sample.mask)),
            TrueRound(Asked("what is beside instance 1", (1,)), encode_mask(sample.scene.objects[0].mask)),
        )
        dialogues.append(DialogueRecord(f"d{number}", path, 112, 112, rounds))
    write_dialogues(tmp_path / "talks.jsonl", dialogues)
    return tmp_path / "talks.jsonl"


def test_the_command_evaluates_a_file_with_the_embedded_models(
    talks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    call = ["evaluate", "--data", str(talks), "--out", str(out), "--max_new_tokens", "16", "--references", "mask"]
    assert main(call) == 0
    said = capsys.readouterr()
    assert "warning: the embedded policy knows only synthetic shapes" in said.err
    lines = [line.split() for line in said.out.splitlines()[:4]]
    assert [line[:2] for line in lines] == [["round", "count"], ["1", "2"], ["2", "2"], ["all", "4"]]
    results = json.loads((out / "metrics.json").read_text())
    assert results[TRUE][NATIVE]["1"] == results[PREDICTED][NATIVE]["1"]
    assert results[TRUE][NATIVE]["all"]["count"] == 4
    assert "At the pictures' own size" in (out / "report.md").read_text()
    page = (out / "report.html").read_text()
    assert page.count('<div class="case">') == 2 and "what is beside instance 1" in page
    before = (out / "dialogues.jsonl").read_bytes()
    assert main(call) == 0
    assert "0 dialogues answered" in capsys.readouterr().out and (out / "dialogues.jsonl").read_bytes() == before
    assert main([*call[:-1], "marks"]) == 2
    assert "references was 'mask' and is 'marks'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "mr_refcoco"], "are not at data/mr_refcoco.jsonl; make them from the originals: seg-zero data"),
        (["--data", "refcoco+_sesame"], "--mrseg conversations_folder/refcoco+_val_sesame_templates.json --images"),
        (["--data", "TALKS", "--votes", "3"], "there is no --votes and --workers"),
        (["--data", "TALKS", "--rule", "lisa"], "there is no --rule"),
        (["--data", "synthetic", "--references", "crop"], "--references crop is for dialogues"),
        (["--data", "synthetic", "--carry", "all"], "--carry all is for dialogues"),
        (
            ["--data", "TALKS", "--engine", "vllm", "--references", "crop"],
            "--references crop needs --engine transformers",
        ),
        (["--data", "BAD"], "record 1 (d0): image '0.png' does not exist"),
    ],
)
def test_what_does_not_fit_dialogues_is_refused(
    talks: Path,
    tmp_path: Path,
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    bad = tmp_path / "empty" / "bad.jsonl"
    bad.write_text(talks.read_text())
    monkeypatch.chdir(tmp_path / "empty")
    given = [{"TALKS": str(talks), "BAD": str(bad)}.get(word, word) for word in arguments]
    assert main(["evaluate", *given, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()
