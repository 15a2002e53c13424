"""Answers that the policy corrects: what it is shown, which answer stands, and the dialogues that train it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.scripted_policy import ScriptedPolicy

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.cli.main import main
from seg_zero.data.synthetic.rows import write_split
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.dialogue.data.records import read_dialogues
from seg_zero.dialogue.renderers import renderer_for
from seg_zero.dialogue.turns import correction_of
from seg_zero.errors import InputError
from seg_zero.pipeline import ReasoningSegmenter

SCENE = next(s for s in make_samples(33, 40) if len(s.scene.objects) >= 3).scene
ONE, TWO, THREE = SCENE.objects[:3]
FIRST, SECOND = (correction_of("the shape", number).question for number in (1, 2))


def says(*items: Any) -> str:
    return write_answer("look", write_solution_multi([item.prompt for item in items]))


def segmenter_saying(sam2: Any, *texts: str) -> tuple[ReasoningSegmenter, ScriptedPolicy]:
    policy = ScriptedPolicy(dict(zip(("the shape", FIRST, SECOND), texts, strict=False)))
    return ReasoningSegmenter(policy, sam2), policy


def overlap(mask: np.ndarray, item: Any) -> float:
    return float((mask & item.mask).sum() / (mask | item.mask).sum())


def test_the_corrected_answer_counts_and_every_turn_is_kept(sam2: Any) -> None:
    segmenter, _ = segmenter_saying(sam2, says(ONE), says(TWO), says(THREE))
    result = segmenter(SCENE.image, "the shape", refine=2)
    assert [overlap(turn.mask, item) > 0.8 for turn, item in zip(result.turns, (ONE, TWO, THREE), strict=True)] == [
        True, True, True,
    ]  # fmt: skip
    assert result.question == "the shape" and overlap(result.mask, THREE) > 0.8
    assert [turn["area"] for turn in result.to_dict()["turns"]] == [int(turn.mask.sum()) for turn in result.turns]
    assert result.seconds["policy"] >= result.turns[0].seconds["policy"]


def test_turns_go_on_where_an_answer_has_had_some(sam2: Any) -> None:
    segmenter, _ = segmenter_saying(sam2, says(ONE), says(TWO), says(THREE))
    at_once = segmenter(SCENE.image, "the shape", refine=2)
    first = segmenter(SCENE.image, "the shape")
    one_by_one = segmenter.correct(segmenter.correct(first))
    assert one_by_one == at_once and len(one_by_one.turns) == 3
    assert segmenter.correct(first, 2) == at_once
    with pytest.raises(InputError, match="turns=9"):
        segmenter.correct(first, 9)


def test_a_turn_sees_the_answer_before_it_drawn_on_the_picture(sam2: Any) -> None:
    segmenter, policy = segmenter_saying(sam2, says(ONE), says(TWO), says(THREE))
    segmenter(SCENE.image, "the shape", refine=2)
    first, second, third = policy.requests
    assert np.array_equal(np.asarray(first.image), np.asarray(SCENE.image))
    assert "Numbered outlines" in second.context and "instance 1" in second.context
    assert "instance 2" in third.context and '"the shape"' not in third.context  # only the last answer is shown
    changed = [np.asarray(request.image) != np.asarray(SCENE.image) for request in (second, third)]
    assert changed[0].any() and changed[1].any() and not np.array_equal(*changed)


def test_what_a_turn_sees_is_what_a_dialogue_shows(sam2: Any) -> None:
    """So that training on dialogues trains corrections."""
    segmenter, policy = segmenter_saying(sam2, says(ONE), says(TWO), says(THREE))
    segmenter(SCENE.image, "the shape", refine=2)
    corrected = policy.requests[1:]
    dialogue = segmenter.dialogue(SCENE.image, references="marks", carry="references")
    for question in ("the shape", FIRST, SECOND):
        dialogue.ask(question)
    held = policy.requests[4:]
    assert [request.context for request in corrected] == [request.context for request in held]
    for one, other in zip(corrected, held, strict=True):
        assert np.array_equal(np.asarray(one.image), np.asarray(other.image))
    assert renderer_for("marks", "references").carry == "references"


@pytest.mark.parametrize(
    ("texts", "stands"),
    [
        ((says(ONE), "no answer at all", says(TWO)), TWO),
        ((says(ONE), says(TWO), "no answer at all"), TWO),
        ((says(ONE), "no answer at all", "none again"), ONE),
        (("no answer at all", says(TWO), "none again"), TWO),
    ],
)
def test_an_answer_that_cannot_be_read_does_not_replace_one(sam2: Any, texts: tuple[str, ...], stands: Any) -> None:
    segmenter, _ = segmenter_saying(sam2, *texts)
    result = segmenter(SCENE.image, "the shape", refine=2)
    assert result.problem is None and overlap(result.mask, stands) > 0.8
    assert len(result.turns) == 3


def test_a_correction_may_find_nothing(sam2: Any) -> None:
    segmenter, policy = segmenter_saying(sam2, says(ONE), says(), says(TWO))
    result = segmenter(SCENE.image, "the shape", refine=2)
    assert "nothing was found" in policy.requests[2].context
    assert overlap(result.mask, TWO) > 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refine": -1}, "refine=-1 is not a whole number from 0 to 8"),
        ({"refine": 9}, "refine=9"),
        ({"refine": 1.5}, "refine=1.5"),
        ({"refine": 1, "votes": 3}, "give one of the two"),
    ],
)
def test_unusable_options_are_one_line(sam2: Any, options: dict[str, Any], message: str) -> None:
    segmenter, policy = segmenter_saying(sam2, says(ONE), says(TWO))
    with pytest.raises(InputError, match=message):
        segmenter(SCENE.image, "the shape", **options)
    assert policy.asked == []


def test_rows_become_dialogues_of_corrections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, out = tmp_path / "rows.parquet", tmp_path / "corrections.jsonl"
    write_split(rows, 2, 3)
    assert main(["data", "dialogues", "--rows", str(rows), "--turns", "2", "--out", str(out)]) == 0
    assert "3 dialogues of 9 rounds" in capsys.readouterr().out
    made = read_dialogues(out).usable()
    question = made[0].rounds[0].asked.question
    assert [one.asked for one in made[0].rounds[1:]] == [correction_of(question, 1), correction_of(question, 2)]
    assert all(np.array_equal(one.truth(), made[0].rounds[0].truth()) for one in made[0].rounds)
    assert made[0].picture().size == (112, 112)
