"""One run of six steps with everything switched on; several end-to-end tests look at it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.background import run
from helpers.training_runs import greedy_texts, launch_command, write_scenes

STEPS = 6
ROWS = 28  # two epochs at 6 prompts a step: the order of the second counts too
VALIDATED = 6


def whole_command(scenes: Path, out: Path, steps: int, *overrides: str) -> list[str]:
    """All weights are trained, SAM2 is in the reward, every second step is validated and saved."""
    return launch_command(
        scenes,
        out,
        "data.train_batch_size=6",
        "worker.rollout.n=4",
        f"data.val_max_samples={VALIDATED}",
        "trainer.test_freq=2",
        "trainer.save_freq=2",
        "worker.actor.micro_batch_size_per_device_for_update=8",
        "worker.actor.micro_batch_size_per_device_for_experience=8",
        "worker.actor.optim.lr=1e-3",
        "policy.freeze_vision=false",
        "reward.terms.mask.weight=1",
        f"trainer.total_training_steps={steps}",
        *overrides,
    )


def steps_of(out: Path) -> list[dict[str, Any]]:
    """The metrics of each step; the validation before the first step is none."""
    path = out / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [line for line in lines if line["step"]]


@dataclass(frozen=True)
class WholeRun:
    """The run, its merged model, its greedy texts by engine, and how many of 256 sampled answers vLLM gave."""

    out: Path
    metrics: list[dict[str, Any]]
    merged: Path
    texts: dict[str, list[str]]
    sampled: int


def uninterrupted(folder: Path) -> WholeRun:
    from seg_zero.export.merge import merge

    scenes, out = write_scenes(folder, ROWS), folder / "run"
    command = whole_command(
        scenes,
        out,
        STEPS,
        "trainer.val_before_train=true",
        "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]",
    )
    result = run(command, 400)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    assert f"step {STEPS}/{STEPS}" in result.stdout
    merged = merge(out / "checkpoints" / f"global_step_{STEPS}", folder / "merged")
    # All prompts at once are more than vLLM takes into one step; it must not cut one that has a seed.
    return WholeRun(out, steps_of(out), merged, *greedy_texts(merged, scenes, 48, many=128))
