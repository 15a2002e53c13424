"""One run of the study: train an arm with a seed, then answer held-out questions; the result is one small file."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kept_runs import Result, kept_run
from benchmarks.learning.runs import PROMPTS_PER_STEP, train_grpo
from benchmarks.learning.supervised import requests_of, train_on
from benchmarks.reasoning.arms import Arm, forbid_thoughts, lessons, write_sets
from benchmarks.reasoning.step_reward import right_steps
from seg_zero.cli.demo.hops import OF_THOUGHTS
from seg_zero.command_line import quoted
from seg_zero.data.source import open_rows
from seg_zero.data.synthetic.hops import HOP_SETS
from seg_zero.errors import InputError
from seg_zero.evaluation.hops import MAX_NEW_TOKENS, SIDE
from seg_zero.evaluation.run import Models, evaluate, fingerprint
from seg_zero.evaluation.steps import judge_prediction
from seg_zero.evaluation.store import read_predictions
from seg_zero.files import read_json, write_json
from seg_zero.training.trainer.metrics_log import read_metrics

# Of a GRPO run, by step.
CURVES = (
    "response_length/mean", "reward/box_iou/mean", "reward/score/mean", "reward/flat_groups", "actor/entropy",
    "actor/kl_loss", "timing_s/step",
)  # fmt: skip

STEPS_WEIGHT = 3.0  # of the ablation's reward for right steps; answers earn up to 6


@dataclass(frozen=True)
class Plan:
    """What all runs of a study share. ``answers``: sampled per question by GRPO; passes over the rows otherwise."""

    start: Path
    steps: int = 40
    answers: int = 8
    rate: float = 1e-4  # of supervised training
    held_out: int = 100  # questions of each set

    def check(self, folder: Path) -> None:
        """Write the plan into ``folder``, or raise InputError if runs of another one are there."""
        plan = {**asdict(self), "start": fingerprint(str(self.start))}
        path = folder / "plan.json"
        if not path.exists():
            write_json(path, plan)
        elif (there := read_json(path)) != plan:
            different = ", ".join(name for name in plan if there.get(name) != plan[name])
            raise InputError(f"{folder} holds runs of another plan (different: {different}); give another --out")


def judge(policy: Path, rows: Path, out: Path) -> dict[str, Any]:
    """Numbers of a policy on each set, as lists in the order of the rows."""
    found: dict[str, Any] = {}
    for name in HOP_SETS:
        folder = out / f"evaluation_{name}"
        evaluate(
            Models(policy=str(policy), max_new_tokens=MAX_NEW_TOKENS),
            open_rows(rows / f"held_out_{name}.parquet"),
            folder,
        )
        predictions = read_predictions(folder)
        answers = [judge_prediction(one, SIDE)[0] for one in predictions]
        found[name] = {
            "iou": [one.iou for one in predictions],
            "right": [float(one.right) for one in answers],
            "hops": [one.hops for one in answers],
            "right_hops": [one.right_hops for one in answers],
            "complete": [float(one.complete) for one in answers],
            "tokens": [one.tokens for one in predictions],
            "texts": [one.text for one in predictions],
        }
    return found


def steps_reward(train: Path) -> str:
    """The override that rewards right steps on the questions of a file."""
    function = f"{right_steps.__module__}.{right_steps.__name__}"
    return f"+reward.terms.steps={{function: {function}, weight: {STEPS_WEIGHT}, rows: {quoted(train)}}}"


def _train(arm: Arm, seed: int, plan: Plan, rows: Path, out: Path) -> tuple[Path, dict[str, list[float]]]:
    """The policy to judge, and the curves of its training by step."""
    train, start = rows / "train.parquet", plan.start
    curves: dict[str, list[float]] = {}
    if arm.taught is not None:
        samples, responses = lessons(train, arm.taught)
        curves["loss"] = train_on(
            requests_of(samples), responses, out / "taught",
            seed=seed, rate=plan.rate, steps=plan.steps, passes=plan.answers, start=start,
        )  # fmt: skip
        start = out / "taught"
    if arm.silent:
        start = forbid_thoughts(start, out / "start")
    if not arm.grpo:
        return start, curves
    overrides = (
        *(f"reward.terms.{term}.weight=0" for term in OF_THOUGHTS),
        *([steps_reward(train)] if arm.guided else []),
        f"worker.actor.model.model_path={quoted(start)}",
        f"worker.rollout.n={plan.answers}",
        f"data.max_response_length={MAX_NEW_TOKENS}",
    )
    policy = train_grpo(train, rows / "held_out_2.parquet", out, seed, plan.steps, overrides)
    lines = read_metrics(out / "train" / "metrics.jsonl")
    return policy, curves | {name: [line[name] for line in lines] for name in CURVES if name in lines[0]}


def run(arm: Arm, seed: int, plan: Plan, folder: Path) -> Result:
    """The result of a run; read from its file if it was made before. Models and checkpoints are not kept."""
    out = folder / re.sub(r"\W+", "_", f"{arm.name} {seed}")

    def make() -> Result:
        write_sets(folder / "rows", plan.steps * PROMPTS_PER_STEP, plan.held_out)
        start = time.perf_counter()
        policy, curves = _train(arm, seed, plan, folder / "rows", out)
        seconds = time.perf_counter() - start
        sets = judge(policy, folder / "rows", out)
        return {"arm": arm.name, "seed": seed, "seconds": seconds, "curves": curves, "sets": sets}

    return kept_run(out, make, ("train/checkpoints", "policy", "taught", "start"))


def mean_iou(result: dict[str, Any], name: str) -> float:
    """gIoU of a run on a set."""
    return float(np.mean(result["sets"][name]["iou"]))
