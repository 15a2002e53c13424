"""The study of chained hops: what its arms are taught, how a policy is judged by hops, and what the report says."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.chained_answers import written
from hydra.core.override_parser.overrides_parser import OverridesParser
from safetensors.torch import load_file

from benchmarks.reasoning import runs
from benchmarks.reasoning.__main__ import main
from benchmarks.reasoning.arms import ARMS, GRPO, START, forbid_thoughts, lessons, named, write_sets
from benchmarks.reasoning.forced import Forced, table
from benchmarks.reasoning.report import read_results, tables, write_report
from benchmarks.reasoning.runs import STEPS_WEIGHT, Plan, steps_reward
from seg_zero.answer import parse_answer, write_answer
from seg_zero.cli.demo.chains import RIGHT, WRONG, draw_chains
from seg_zero.command_line import quoted
from seg_zero.data.source import open_rows
from seg_zero.data.synthetic.hops import HOP_SETS
from seg_zero.data.synthetic.rows import hop_question, write_hops
from seg_zero.errors import InputError
from seg_zero.evaluation.hops import held_out, judge_hops, powers_of_two
from seg_zero.evaluation.steps import judge_answer
from seg_zero.files import write_json, write_text
from seg_zero.policy import GREEDY, Policy, Reply, Sampling
from seg_zero.policy.base import Request
from seg_zero.policy.model_files import HOP_START, TINY_POLICY
from seg_zero.policy.processors import load_processor
from seg_zero.prompting import PromptSpec, build_messages
from seg_zero.rewards import Response
from seg_zero.rewards.presets import read_terms


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


class Walker(Policy):
    """Knows the held-out questions of a set and takes at most so many hops; every second sample names the anchor."""

    spec = PromptSpec(template="brief", image_size=112)
    in_flight = 1

    def __init__(self, name: str, hops: int) -> None:
        self.name, self.hops = name, hops

    def stream(self, requests: Iterable[Request | None], sampling: Sampling = GREEDY) -> Iterator[Reply]:
        for request in requests:
            assert request is not None
            scene, chain = held_out(self.name, request.key)
            assert request.question == chain.text
            taken = min(self.hops, chain.hops)
            good, bad = (written(scene, chain, hops) for hops in (taken, 0))
            yield Reply(request.key, tuple([good, bad] * sampling.answers)[: sampling.answers], 1, False)


def test_a_policy_that_takes_all_hops_is_right_and_one_that_stops_early_is_not() -> None:
    (whole,) = judge_hops(Walker("2", 4), ["2"], 4)
    (early,) = judge_hops(Walker("2", 1), ["2"], 4)
    assert (whole.accuracy, whole.complete, whole.hops, whole.first) == (1, 1, 2, 1)
    assert (early.accuracy, early.complete, early.hops, early.first) == (0, 0, 1, 1)


def test_samples_give_pass_at_n() -> None:
    (summary,) = judge_hops(Walker("1", 1), ["1"], 3, Sampling(4, 1.0))
    assert summary.samples == 4
    assert list(summary.pass_at) == powers_of_two(4) == [1, 2, 4]
    assert summary.pass_at[1] == pytest.approx(0.5)
    assert summary.pass_at[2] == pytest.approx(1 - 1 / 6)
    assert summary.pass_at[4] == 1


def test_arms_are_trained_on_one_and_two_hops_alone(tmp_path: Path) -> None:
    write_sets(tmp_path, 4, 2)
    assert [row.kind for row in open_rows(tmp_path / "train.parquet")] == ["hops-1", "hops-2"] * 2
    assert {path.name for path in tmp_path.iterdir()} == {"train.parquet", *(f"held_out_{n}.parquet" for n in HOP_SETS)}
    before = (tmp_path / "train.parquet").stat().st_mtime_ns
    write_sets(tmp_path, 4, 2)
    assert (tmp_path / "train.parquet").stat().st_mtime_ns == before


def test_supervised_arms_copy_the_answer_with_an_empty_thought_or_all_steps(tmp_path: Path) -> None:
    write_hops(tmp_path / "rows.parquet", 2, 4, ["1", "2"], 112)
    answers, chains = (lessons(tmp_path / "rows.parquet", taught) for taught in ("answers", "chains"))
    for row, answer, chain_text, sample in zip(
        open_rows(tmp_path / "rows.parquet"), answers[1], chains[1], chains[0], strict=True
    ):
        scene, chain = hop_question(row.id, row.kind, 112)
        assert parse_answer(answer).thinking == ""
        assert judge_answer(scene, chain, answer).right and not judge_answer(scene, chain, answer).complete
        assert judge_answer(scene, chain, chain_text).right and judge_answer(scene, chain, chain_text).complete
        assert sample.question.text == row.problem


def test_rewarded_steps_are_right_in_a_row_from_the_first(tmp_path: Path) -> None:
    rows = tmp_path / "train.parquet"
    write_sets(tmp_path, 40, 1)
    override = OverridesParser.create().parse_override(steps_reward(rows))
    (term,) = read_terms({override.key_or_group: override.value()})
    for row in open_rows(rows):
        scene, chain = hop_question(row.id, row.kind, 112)
        for taken in range(chain.hops + 1):
            response = Response(written(scene, chain, taken), row.solution, (112, 112), question=row.problem)
            assert term(response) == taken / chain.hops
    assert term.weight == STEPS_WEIGHT


def test_a_forbidden_thought_is_empty_before_the_policy_writes(tmp_path: Path) -> None:
    folder = forbid_thoughts(Path(TINY_POLICY), tmp_path / "silent")
    messages = build_messages("the red circle", Walker.spec)
    before, after = (
        load_processor(str(model)).apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        for model in (TINY_POLICY, folder)
    )
    assert after == before + "<think></think>"


def test_a_template_that_ends_otherwise_is_refused(tmp_path: Path) -> None:
    shutil.copytree(TINY_POLICY, tmp_path / "start")
    (tmp_path / "start" / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(InputError, match=r"chat_template.jinja does not end with the assistant's turn"):
        forbid_thoughts(tmp_path / "start", tmp_path / "silent")


def test_answers_are_learnt_before_grpo_goes_on_without_thoughts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = []

    def train_grpo(train: Path, held_out: Path, out: Path, seed: int, steps: int, given: tuple[str, ...]) -> Path:
        overrides.extend(given)
        write_text(out / "train" / "metrics.jsonl", '{"response_length/mean": 20.0}\n')
        return out / "policy"

    monkeypatch.setattr(runs, "train_grpo", train_grpo)
    write_sets(tmp_path / "rows", 16, 1)
    (arm,) = named(["supervised answers, then GRPO, empty thought"])
    policy, curves = runs._train(arm, 1, Plan(TINY_POLICY, steps=1, answers=1), tmp_path / "rows", tmp_path / "run")
    assert policy == tmp_path / "run" / "policy" and list(curves) == ["loss", "response_length/mean"]
    start = tmp_path / "run" / "start"
    assert f"worker.actor.model.model_path={quoted(start)}" in overrides
    assert (start / "chat_template.jinja").read_text().rstrip().endswith("<think></think>{% endif %}")
    weights, before = (load_file(folder / "model.safetensors") for folder in (start, Path(TINY_POLICY)))
    name = "model.embed_tokens.weight"
    assert not torch.equal(weights[name], before[name])


def test_arms_are_taken_by_name() -> None:
    assert named(None) == list(ARMS)
    assert named(["GRPO", "start"]) == [START, GRPO]
    with pytest.raises(InputError, match="arm 'grpo' is not known; choose of: start; start, empty thought; GRPO"):
        named(["grpo"])


def test_runs_of_another_plan_are_not_mixed(tmp_path: Path) -> None:
    plan = Plan(Path(TINY_POLICY), steps=2)
    plan.check(tmp_path)
    plan.check(tmp_path)
    with pytest.raises(InputError, match=r"another plan \(different: steps, answers\)"):
        Plan(Path(TINY_POLICY), steps=3, answers=4).check(tmp_path)


def result(arm: str, seed: int, iou: float, hops: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    one = {
        "iou": (iou + 0.01 * rng.standard_normal(20)).tolist(),
        "right": [float(iou > 0.5)] * 20,
        "hops": [hops] * 20,
        "complete": [float(hops > 1)] * 20,
        "tokens": [30 + hops] * 20,
        "texts": [write_answer("I see the red circle (20,30)", "[]")] * 20,
    }
    curves = {"response_length/mean": [30.0, 31.0 + seed]} if arm.startswith("GRPO") else {}
    return {"arm": arm, "seed": seed, "seconds": 1.0, "curves": curves, "sets": dict.fromkeys(HOP_SETS, one)}


def test_the_report_compares_every_arm_with_grpo(tmp_path: Path) -> None:
    for arm, seed, iou, hops in (("GRPO", 1, 0.8, 2), ("GRPO", 2, 0.7, 2), ("start", 0, 0.3, 1)):
        write_json(tmp_path / f"{arm}_{seed}" / "result.json", result(arm, seed, iou, hops))
    assert list(read_results(tmp_path)) == ["start", "GRPO"]
    text = write_report(tmp_path)
    assert (tmp_path / "reasoning.md").read_text() == text
    for name in ("reasoning", "chains_2", "chains_3", "chains_4"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
    assert "| GRPO | 2 | 0.7" in text and "\n| a guess |  | 0.2" in text
    after = text.split("gIoU of GRPO less that of")[1].splitlines()
    line = next(line for line in after if line.startswith("| start"))
    assert line.split("|")[2].strip().startswith("+0.4")


def test_a_picture_shows_right_steps_in_green_and_wrong_ones_in_red() -> None:
    drawn = [held_out("2", index) for index in range(2)]

    def pixels(texts: list[str], colour: str) -> int:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        picture = np.asarray(draw_chains("2", {"one": texts}, range(2)).convert("RGB")).astype(int)
        return int((abs(picture - wanted).max(axis=-1) < 12).sum())

    right, early = ([written(scene, chain, hops) for scene, chain in drawn] for hops in (2, 1))
    assert pixels(right, RIGHT) > pixels(early, RIGHT) + 50  # the second arrow and the box
    assert pixels(early, WRONG) > pixels(right, WRONG) + 50  # the box


def test_a_report_without_runs_has_no_lines(tmp_path: Path) -> None:
    assert "| start" not in tables(read_results(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--start", "nowhere"], "nowhere is no policy"),
        (["--start", str(TINY_POLICY), "--arms", "PPO"], "arm 'PPO' is not known"),
    ],
)
def test_the_command_refuses_what_it_cannot_run(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_reading_right_chains_says_which_hop_the_start_lacks() -> None:
    lines = table(Forced(HOP_START), 6).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [cell[:2] for cell in cells] == [
        [str(hops), str(hop)] for hops in (1, 2, 3, 4) for hop in range(1, hops + 1)
    ]
    first = [float(right) for _, hop, right, *_ in cells if hop == "1"]
    assert min(first) > 0.5, "it writes single hops"
    onward = {(hops, hop): float(chance) for hops, hop, _, chance, _ in cells}
    assert onward["1", "1"] > 0.9 and onward["2", "1"] < 0.3, "and hardly ever chains two"
    lists = {(hops, hop): listed for hops, hop, *_, listed in cells}
    assert all((lists[place] == "") == (place[0] == place[1]) for place in lists), "none after the last hop"
    assert float(lists["2", "1"]) > 0.5
