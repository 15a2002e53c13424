"""Answers to questions of several hops: right by the box, complete by the steps, and how often one of n is right."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.source import open_rows
from seg_zero.data.synthetic.hop_steps import write_steps
from seg_zero.data.synthetic.hops import HOP_SETS, Chain
from seg_zero.data.synthetic.rows import hop_question, write_hops
from seg_zero.data.synthetic.scenes import Scene
from seg_zero.data.synthetic.shortcuts import draw_any
from seg_zero.errors import InputError
from seg_zero.evaluation.predictions import Prediction
from seg_zero.evaluation.steps import HopAnswer, hop_table, judge_answer, judge_prediction, pass_at, summarise_hops


@cache
def case() -> tuple[Scene, Chain]:
    return next(
        (scene, chain)
        for seed in range(50)
        for scene, chain in (draw_any(np.random.default_rng(seed), HOP_SETS["2"], 112),)
        if chain.target != chain.anchor
    )


def answer(hops: int, index: int) -> str:
    scene, chain = case()
    thought = write_steps(scene, chain.path[: hops + 1], chain.relations) if hops >= 0 else ""
    return write_answer(thought, write_solution_multi([scene.objects[index].prompt]))


def test_a_complete_chain_with_its_target_is_right() -> None:
    scene, chain = case()
    judged = judge_answer(scene, chain, answer(2, chain.target))
    assert judged == HopAnswer(pytest.approx(1.0), 2, 2, True)
    assert judged.right


def test_a_guess_is_right_without_steps() -> None:
    scene, chain = case()
    for hops in (-1, 0, 1):
        judged = judge_answer(scene, chain, answer(hops, chain.target))
        assert judged.right and not judged.complete
        assert judged.right_hops == judged.hops == max(hops, 0)


def test_complete_steps_do_not_make_another_object_right() -> None:
    scene, chain = case()
    judged = judge_answer(scene, chain, answer(2, chain.anchor))
    assert judged.complete and not judged.right


@pytest.mark.parametrize("text", ["", "no answer", "<think>I see", "<think></think><answer>[]</answer>"])
def test_text_without_an_object_is_wrong(text: str) -> None:
    assert judge_answer(*case(), text) == HopAnswer(0.0, 0, 0, False)


@pytest.mark.parametrize(("samples", "right"), [(4, 0), (4, 1), (4, 4), (5, 2)])
def test_pass_at_counts_the_draws_with_a_right_one(samples: int, right: int) -> None:
    outcomes = [True] * right + [False] * (samples - right)
    for draws in range(1, samples + 1):
        all_draws = list(combinations(outcomes, draws))
        assert pass_at(samples, right, draws) == pytest.approx(sum(map(any, all_draws)) / len(all_draws))


@pytest.mark.parametrize("draws", [0, 5])
def test_pass_at_needs_enough_samples(draws: int) -> None:
    with pytest.raises(InputError, match=f"pass@{draws} of 4 samples"):
        pass_at(4, 1, draws)


def test_a_summary_is_the_mean_over_questions_and_samples() -> None:
    hit, miss = HopAnswer(0.9, 2, 2, True), HopAnswer(0.1, 1, 0, False)
    guess = HopAnswer(0.8, 1, 1, False)
    summary = summarise_hops("2", [[hit, miss], [guess, hit], [miss, miss]], (1, 2))
    assert (summary.questions, summary.samples) == (3, 2)
    assert summary.box_iou == pytest.approx((0.9 + 0.1 + 0.8 + 0.9 + 0.1 + 0.1) / 6)
    assert summary.accuracy == summary.pass_at[1] == pytest.approx(3 / 6)
    assert summary.pass_at[2] == pytest.approx(2 / 3)
    assert summary.hops == pytest.approx((2 + 1 + 1 + 2 + 1 + 1) / 6)
    assert summary.first == pytest.approx(3 / 6)
    assert summary.complete == pytest.approx(2 / 6)
    assert summary.complete_of_right == pytest.approx(2 / 3)


@pytest.mark.parametrize("answers", [[], [[]], [[HopAnswer(0, 0, 0, False)], []]])
def test_a_summary_needs_equally_many_answers(answers: list[list[HopAnswer]]) -> None:
    with pytest.raises(InputError, match="equally many"):
        summarise_hops("2", answers)


def test_the_table_leaves_out_what_is_not_defined() -> None:
    table = hop_table([summarise_hops("3", [[HopAnswer(0.25, 1, 1, False)]], (1,))])
    assert table.splitlines()[-1] == "| 3 | 1 | 0.250 | 0.000 | 1.000 | 1.000 | 0.000 |  | 0.000 |"


def test_a_row_leads_back_to_its_scene(tmp_path: Path) -> None:
    write_hops(tmp_path / "rows.parquet", 7, 3, ["2", "2-new"], 112)
    for number, row in enumerate(open_rows(tmp_path / "rows.parquet")):
        scene, chain = hop_question(row.id, row.kind, row.img_width)
        assert chain.text == row.problem
        assert np.array_equal(np.asarray(scene.image), np.asarray(row.image()))
        thought = write_steps(scene, chain.path, chain.relations)
        prediction = Prediction(number, row.id, row.problem, row.kind, texts=(write_answer(thought, row.solution), ""))
        good, bad = judge_prediction(prediction, 112)
        assert good.right and good.complete and not bad.right


@pytest.mark.parametrize(
    ("name", "kind"), [("hops-3-000001", "attr"), ("hops-3-000001", "2"), ("synthetic-1-000001", "hops-2")]
)
def test_other_rows_have_no_steps(name: str, kind: str) -> None:
    with pytest.raises(InputError, match="no question of several hops"):
        hop_question(name, kind, 112)
