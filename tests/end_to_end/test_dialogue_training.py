"""Conversations trained in closed loop: two steps, a validation, a checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.background import Background, needs, run
from helpers.training_runs import ROOT, ROUNDING

pytestmark = pytest.mark.timeout(900)
ROUNDS, STEPS, HELD_OUT = 3, 2, 4


@dataclass(frozen=True)
class Talked:
    out: Path
    metrics: list[dict[str, Any]]


def conversations(folder: Path) -> Talked:
    from seg_zero.dialogue.data.records import write_dialogues
    from seg_zero.dialogue.data.synthetic import SEEDS, make_dialogues

    files = {"train_files": (SEEDS["train"], 8), "val_files": (SEEDS["val"], HELD_OUT)}
    for name, (seed, count) in files.items():
        made = make_dialogues(folder / name, seed, 40, rounds=ROUNDS, parts=True)
        write_dialogues(folder / f"{name}.jsonl", [item for item in made if len(item.rounds) == ROUNDS][:count])
    result = run(
        [
            *("bash", str(ROOT / "training_scripts" / "run_tiny_dialogue_cpu.sh")),
            *(f"data.{name}={folder / name}.jsonl" for name in files),
            f"output_dir={folder / 'run'}",
            f"trainer.total_training_steps={STEPS}",
            f"trainer.save_freq={STEPS}",
            f"trainer.test_freq={STEPS}",
            "trainer.val_before_train=false",
            *("data.train_batch_size=2", "worker.actor.global_batch_size=2", "worker.rollout.n=4"),
            *("worker.actor.optim.lr=1e-3", "actor_rollout_ref.actor.optim.lr_warmup_steps=0"),
        ],
        540,
    )
    log = folder / "run" / "train.log"
    assert result.returncode == 0, (
        f"{result.stdout}\n{result.stderr}\n{log.read_text()[-4000:] if log.exists() else ''}"
    )
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return Talked(folder / "run", [line for line in lines if line["step"]])


@needs(conversations)
def test_every_round_is_a_sample_with_its_own_credit(finished: Background) -> None:
    metrics = finished(conversations).metrics
    assert [step["step"] for step in metrics] == list(range(1, STEPS + 1))
    for step in metrics:
        sizes = [step[f"dialogue/round_{number}/advantage"] for number in range(1, ROUNDS + 1)]
        # Of one return for the whole conversation, all rounds would have the same. Rounds may be flat, and have none.
        assert max(sizes) > 0 and len(set(sizes)) > 1
        assert all(step[f"dialogue/round_{number}/answers"] == 8 for number in range(1, ROUNDS + 1))
        scores = [step[f"dialogue/round_{number}/score"] for number in range(1, ROUNDS + 1)]
        assert len(set(scores)) > 1
        assert step["reward/score/mean"] == pytest.approx(sum(scores) / ROUNDS, abs=1e-4)
        assert step["reward/cut_short/mean"] == 0.0 and "reward/citation/mean" in step
        assert step["training/rollout_probs_diff_max"] < ROUNDING  # the actor saw the prompts that vLLM answered
        assert step["actor/grad_norm"] > 0


@needs(conversations)
def test_held_out_conversations_are_judged_by_round(finished: Background) -> None:
    last = finished(conversations).metrics[-1]
    by_round = [last[f"validation/round_{number}/gIoU"] for number in range(1, ROUNDS + 1)]
    assert last["validation/rows"] == HELD_OUT * ROUNDS
    assert last["validation/gIoU"] == pytest.approx(sum(by_round) / ROUNDS, abs=1e-6)
    assert last["validation/later_rounds/gIoU"] == pytest.approx(sum(by_round[1:]) / (ROUNDS - 1), abs=1e-6)


@needs(conversations)
def test_a_conversation_run_leaves_a_checkpoint_that_merges(finished: Background, tmp_path: Path) -> None:
    from seg_zero.export.merge import merge
    from seg_zero.prompting import PromptSpec

    out = finished(conversations).out
    merged = merge(out / "checkpoints" / f"global_step_{STEPS}", tmp_path / "merged")
    assert PromptSpec.load(merged) == PromptSpec("brief", 112)
    assert (merged / "model.safetensors").stat().st_size > 1_000_000
