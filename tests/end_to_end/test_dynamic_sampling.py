"""One run of two steps with everything that GRPO has not: filtering, no reference, several updates, weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.background import Background, needs
from helpers.training_runs import Trained, train

pytestmark = pytest.mark.timeout(900)


def dapo(folder: Path) -> Trained:
    """Two answers to each question and coarse rewards: many groups are flat, and none of them is trained on."""
    return train(
        folder,
        96,
        2,
        "algorithm=dapo",
        "trainer.save_freq=-1",
        "data.train_batch_size=8",
        "worker.rollout.n=2",
        "worker.actor.global_batch_size=4",
        "worker.actor.micro_batch_size_per_device_for_update=8",
        "worker.actor.micro_batch_size_per_device_for_experience=16",
        "worker.actor.optim.lr=2e-3",
        "reward.terms.iou_soft.weight=0",
        "algorithm.rollout_correction.rollout_is=token",
    )


@needs(dapo)
def test_dapo_on_the_tiny_recipe(finished: Background) -> None:
    steps = finished(dapo).metrics
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
