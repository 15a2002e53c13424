"""The reward audit: no strategy is paid, no honest style costs anything, and a bad reward is found out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_zero import rewards
from seg_zero.answer import parse_answer, write_solution_multi
from seg_zero.cli.main import main
from seg_zero.cli.rewards import case_of
from seg_zero.data.synthetic.rows import HELD_OUT_SEED, sample_to_row, write_split
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.errors import InputError
from seg_zero.objects import PromptObject
from seg_zero.rewards.attacks import Attack, Case, attacks, response, written
from seg_zero.rewards.audit import AuditReport, StandIn, audit
from seg_zero.rewards.presets import preset_settings, read_terms
from seg_zero.rewards.styles import STYLES

SINGLE = "<box>(20,20),(60,60)</box><points>(30,30),(50,50)</points>"


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [case_of(sample_to_row(s, str(i))) for i, s in enumerate(make_samples(HELD_OUT_SEED, 24))]


def audited(cases: list[Case], **weights: float) -> AuditReport:
    terms = preset_settings("seg_zero")
    changed = {name: {**settings, "weight": weights.get(name, settings["weight"])} for name, settings in terms.items()}
    return audit(read_terms(changed), cases)


def test_the_default_reward_passes(cases: list[Case]) -> None:
    report = audited(cases)
    assert report.problems == []
    assert report.highest == 7.0 and report.rows == 24
    assert len(report.styles) >= 20 and max(loss.largest for loss in report.styles.values()) == 0.0
    # The strategies are tried where they miss.
    tried = {name for name, earned in report.attacks.items() if earned.low_rows}
    assert {"shifted by half of its size", "whole image, true points", "empty list", "grid of 3 x 3"} <= tried


def test_it_passes_without_masks_too(cases: list[Case]) -> None:
    assert audited([Case(case.solution, case.objects, case.size) for case in cases]).problems == []


def test_a_reward_that_pays_for_points_alone_is_found_out(cases: list[Case]) -> None:
    report = audited(cases, iou=0, iou_soft=0, box_l1=0)
    assert any("whole image, true points" in problem for problem in report.problems)
    assert report.attacks["whole image, true points"].largest > 0.9


def test_a_reward_that_pays_for_form_alone_is_found_out(cases: list[Case]) -> None:
    report = audited(cases, think=9, format=9)
    assert any(problem.startswith("empty list: paid on") for problem in report.problems)


def test_a_reward_without_length_lets_empty_thinking_pass(cases: list[Case]) -> None:
    assert "empty thinking: costs nothing" in audited(cases, length=0).problems


def test_styles_that_cost_are_listed(cases: list[Case]) -> None:
    terms = read_terms(preset_settings("vision_reasoner"))
    costly = [problem for problem in audit(terms, cases[:6]).problems if "costs" in problem]
    assert any(problem.startswith("prose before the JSON") for problem in costly)


def test_small_objects_and_both_answer_formats_pass() -> None:
    cases = []
    for x in (30, 400, 800):
        truth = PromptObject((x, x, x + 7, x + 7), ((x + 3, x + 3),))
        cases.append(Case(write_solution_multi([truth]), (truth,), (840, 840)))
    assert audited(cases).problems == []
    single = Case(SINGLE, (PromptObject((20, 20, 60, 60), ((30, 30), (50, 50))),), (112, 112))
    assert audited([single]).problems == []


def test_styles_hold_the_true_objects(cases: list[Case]) -> None:
    for name, style in STYLES.items():
        for case in cases:
            answer = parse_answer(style(case))
            assert answer.problem is None and len(answer.objects) == len(case.objects), name


def test_inner_points_are_other_points_of_the_mask() -> None:
    mask = np.zeros((200, 200), dtype=bool)
    mask[20:121, 20:121] = True
    truth = PromptObject((20, 20, 120, 120), ((70, 70),))
    case = Case('[{"bbox_2d":[20,20,120,120],"point_2d":[70,70]}]', (truth,), (200, 200), mask)
    (item,) = parse_answer(STYLES["another inner point"](case)).objects
    (x, y) = item.points[0]
    assert mask[int(y), int(x)] and np.hypot(x - 70, y - 70) > 50


def test_the_stand_in_is_right_about_true_boxes_and_fills_the_others() -> None:
    mask = np.zeros((100, 100), dtype=bool)
    mask[10:20, 10:30] = True
    truth = PromptObject((10, 10, 29, 29), ((15, 15),))
    case = Case("[]", (truth,), (100, 100), mask)
    stand_in = StandIn(case)

    def iou(*objects: PromptObject) -> float:
        return stand_in.iou(Attack("", objects))

    assert iou(truth) == 1.0
    assert iou() == 0.0
    assert iou(PromptObject((10, 10, 19, 29))) == 0.5
    assert iou(PromptObject((10, 0, 29, 29))) == pytest.approx(0.5)  # 200 pixels more
    assert StandIn(Case("[]", (), (9, 9))).iou(Attack("", ())) == 1.0


def test_a_moved_object_has_the_mask_moved_with_it() -> None:
    cord = np.zeros((100, 100), dtype=bool)
    cord[np.arange(10, 90), np.arange(10, 90)] = True
    truth = PromptObject((10, 10, 89, 89), ((50, 50),))
    case = Case(write_solution_multi([truth]), (truth,), (100, 100), cord)
    box = PromptObject((13, 10, 92, 89), ((53, 50),))
    assert StandIn(case).iou(Attack("", (box,))) > 0.2
    assert StandIn(case).iou(Attack("", (box,), moved=(3.0, 0.0))) == 0.0
    terms = rewards.compute("seg_zero", response(written(case, [box])), case.solution, case.size, true_mask=cord)
    assert (terms["iou"], terms["box_l1"], terms["point"]) == (1.0, 0.0, 0.0)  # thin, so no tolerance is left
    assert terms["total"] < 0.6 * 7


def test_strategies_write_readable_answers(cases: list[Case]) -> None:
    for name, attack in attacks(cases[0]).items():
        assert len(parse_answer(attack.text).objects) == len(attack.objects), name


def test_the_command_prints_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.parquet"
    write_split(rows, HELD_OUT_SEED, 12)
    assert main(["rewards", "audit", "--data", str(rows), "--strict"]) == 0
    printed = capsys.readouterr().out
    assert "shifted by 9 of 840" in printed and printed.rstrip().endswith("passes")
    assert main(["rewards", "audit", "--data", str(rows), "--limit", "6", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["passed"], found["honest_loss"], found["problems"]) == (6, True, 0.0, [])
    assert found["attacks"]["empty list"]["paid_rows"] == 0
    assert main(["rewards", "audit", "--reward", "vision_reasoner", "--data", str(rows), "--strict"]) == 1
    assert "fails:" in capsys.readouterr().out


def test_the_command_knows_the_sets_of_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("seg_zero.evaluation.sets.HELD_OUT_ROWS", 6)
    assert main(["rewards", "audit", "--data", "synthetic"]) == 0
    assert "seg_zero on 6 rows of synthetic" in capsys.readouterr().out
    assert main(["rewards", "audit", "--data", "grefcoco_val"]) == 2
    assert "make it from the originals" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["audit", "--reward", "nope", "--data", "x"], "choose one of seg, seg_strict, seg_zero, vision_reasoner"),
        (["audit", "--data", "gone.parquet"], "does not exist"),
        (["audit", "--data", "ROWS", "--limit", "0"], "give 1 or more"),
        (["audit", "--data", "ROWS", "--reward", "seg"], "--reward seg on --data"),
        (["inspect"], "the only one is audit"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_split(tmp_path / "rows.parquet", HELD_OUT_SEED, 3)
    named = [str(tmp_path / "rows.parquet") if text == "ROWS" else text for text in arguments]
    assert main(["rewards", *named]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"solution": '[{"bbox_2d": [60, 60, 10, 10], "point_2d": [30, 30]}]'}, "'row': "),
        ({"problem": "the cup <|im_end|>"}, "unusable question"),
        ({"mask": {"size": [112, 112], "counts": "zzz"}}, "'row': "),
    ],
)
def test_rows_that_training_refuses_are_not_audited(changes: dict[str, Any], message: str) -> None:
    row = replace(sample_to_row(next(iter(make_samples(HELD_OUT_SEED, 1))), "row"), **changes)
    with pytest.raises(InputError, match="`seg-zero data check` lists such rows") as error:
        case_of(row)
    assert message in str(error.value)


def total(answer: str, truth: str, reasoning: str = "the left one", **known: object) -> float:
    text = f"<think>{reasoning}</think><answer>{answer}</answer>"
    return rewards.compute("seg_zero", text, truth, (840, 840), **known)["total"] / 7  # type: ignore[arg-type]


def test_a_small_object_missed_by_its_size_earns_little() -> None:
    truth = '[{"bbox_2d":[100,100,108,108],"point_2d":[104,104]}]'
    assert total('[{"bbox_2d":[109,109,117,117],"point_2d":[113,113]}]', truth) < 0.2


@pytest.mark.parametrize("side", [100, 300, 600, 839])
def test_a_whole_image_box_earns_no_more_than_its_point_unless_it_fits(side: int) -> None:
    truth = f'[{{"bbox_2d":[0,0,{side},{side}],"point_2d":[50,50]}}]'
    earned = total('[{"bbox_2d":[0,0,839,839],"point_2d":[50,50]}]', truth)
    assert (earned >= 0.6) == (side == 839)


@pytest.mark.parametrize("side", [2, 8, 20, 60, 200, 800])
def test_no_distance_is_looser_than_half_the_smaller_side(side: int) -> None:
    truth = f'[{{"bbox_2d":[0,0,{side},800],"point_2d":[{side // 2},400]}}]'
    for off in (side / 2, side):
        box = [off, off, side + off, 800 + off]
        text = f'<think>x</think><answer>[{{"bbox_2d":{box},"point_2d":[{side // 2 + off},400]}}]</answer>'
        terms = {"box_l1": {"zero_at": 500.0}, "point": {"zero_at": 500.0}}
        for found in (
            rewards.compute("seg_zero", text, truth, (840, 840)),
            rewards.compute("seg_zero", text, truth, (840, 840), terms),
        ):
            assert (found["box_l1"], found["point"]) == (0.0, 0.0)


def test_points_count_by_lying_in_the_true_mask() -> None:
    truth = '[{"bbox_2d":[0,0,400,400],"point_2d":[50,50]}]'
    mask = np.zeros((840, 840), dtype=bool)
    mask[:401, :100] = mask[:100, :401] = True  # an angle
    for point, seen, unseen in (((390, 20), 1.0, 0.0), ((60, 55), 1.0, 1.0), ((110, 110), 0.0, 1.0)):
        text = f'<think>x</think><answer>[{{"bbox_2d":[0,0,400,400],"point_2d":{list(point)}}}]</answer>'
        assert rewards.compute("seg_zero", text, truth, (840, 840), true_mask=mask)["point"] == seen
        small = mask[::5, ::5]  # a mask of another resolution
        assert rewards.compute("seg_zero", text, truth, (840, 840), true_mask=small)["point"] == seen
        assert rewards.compute("seg_zero", text, truth, (840, 840))["point"] == unseen


def test_an_inner_point_off_the_deepest_one_of_a_large_object_counts() -> None:
    truth = '[{"bbox_2d":[100,100,500,500],"point_2d":[300,300]}]'
    assert total('[{"bbox_2d":[100,100,500,500],"point_2d":[331,300]}]', truth) == 1.0


def test_boxes_of_many_times_the_area_earn_nothing() -> None:
    text = '<think>x</think><answer>[{{"bbox_2d":[0,0,{0},99],"point_2d":[50,50]}}]</answer>'
    truth = '[{"bbox_2d":[0,0,99,99],"point_2d":[50,50]}]'
    for right, expected in ((199, 0.5), (299, 1 / 3), (305, 0.0), (800, 0.0)):
        found = rewards.compute("seg_zero", text.format(right), truth, (840, 840))["iou_soft"]
        assert found == pytest.approx(expected)
