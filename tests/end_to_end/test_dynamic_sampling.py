"""One run of two steps with everything that GRPO has not: filtering, no reference, several updates, weights."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from seg_zero.data.synthetic.rows import TRAIN_SEED, write_split

SCRIPT = Path(__file__).resolve().parents[2] / "training_scripts" / "run_tiny_cpu.sh"

pytestmark = pytest.mark.timeout(900)


def test_dapo_on_the_tiny_recipe(tmp_path: Path) -> None:
    """Two answers to each question and coarse rewards: many groups are flat, and none of them is trained on."""
    scenes, out = tmp_path / "scenes.parquet", tmp_path / "run"
    write_split(scenes, TRAIN_SEED, 96)
    command = ["bash", str(SCRIPT), "algorithm=dapo", f"data.train_files={scenes}", f"data.val_files={scenes}"]
    command += [f"output_dir={out}", "trainer.total_training_steps=2", "trainer.save_freq=-1", "trainer.test_freq=-1"]
    command += ["trainer.val_before_train=false"]
    command += ["data.train_batch_size=8", "worker.rollout.n=2", "worker.actor.global_batch_size=4"]
    command += ["worker.actor.micro_batch_size_per_device_for_update=8", "reward.terms.iou_soft.weight=0"]
    command += ["worker.actor.micro_batch_size_per_device_for_experience=16", "worker.actor.optim.lr=2e-3"]
    command += ["actor_rollout_ref.actor.optim.lr_warmup_steps=0"]
    command += ["algorithm.rollout_correction.rollout_is=token"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
    log = out / "train.log"
    assert result.returncode == 0, (
        f"{result.stdout}\n{result.stderr}\n{log.read_text()[-4000:] if log.exists() else ''}"
    )
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2]
    assert sum(step["reward/filtered_groups"] for step in steps) > 0
    for step in steps:
        assert step["reward/flat_groups"] == 0.0
        assert step["reward/drawn_groups"] >= 8 + step["reward/filtered_groups"]
        assert step["critic/score/mean"] == pytest.approx(
            step["reward/score/mean"] + step["reward/overlong_reward/mean"], abs=1e-3
        )
        assert "timing_s/ref" not in step and "actor/kl_loss" not in step
        assert step["rollout_corr/rollout_is_mean"] == pytest.approx(1.0, abs=1e-2)
    assert any(step["actor/pg_clipfrac"] > 0 for step in steps)  # the second update of a step is off-policy
