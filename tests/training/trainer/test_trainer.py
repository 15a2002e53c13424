"""What our trainer adds to verl's, where it can be seen without a run; tests/end_to_end has the rest."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.v1 import get_trainer_cls
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from seg_zero.training.engine import one_update
from seg_zero.training.launch.start import validation_missing
from seg_zero.training.rollout.samples import sample_seed
from seg_zero.training.run_files import RunFiles
from seg_zero.training.settings import HealthSettings
from seg_zero.training.trainer import trainer as module
from seg_zero.training.trainer.trainer import SegZeroTrainer


def test_seeds_depend_on_what_is_asked_alone() -> None:
    numbers = [(seed, step, row, sample) for seed in (1, 42) for step in (1, 2) for row in (0, 7) for sample in (0, 1)]
    seeds = {sample_seed(*four) for four in numbers}
    assert len(seeds) == len(numbers) and all(0 <= seed < 2**63 for seed in seeds)
    assert sample_seed(42, 1, 0, 0) == sample_seed(42, 1, 0, 0)


def test_verl_finds_the_trainer_and_takes_it_for_its_synchronous_one() -> None:
    assert get_trainer_cls("seg_zero") is SegZeroTrainer
    trainer = object.__new__(SegZeroTrainer)
    trainer.trainer_mode = "seg_zero"
    assert trainer.trainer_mode == "sync"


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SegZeroTrainer:
    """A trainer without workers, whose updates report the gradient norms of ``norms`` in turn."""
    trainer = object.__new__(SegZeroTrainer)
    trainer.health_settings = HealthSettings(stop_after_not_finite=3)
    trainer.files = RunFiles(tmp_path)
    trainer.global_steps = 5
    trainer._not_finite = trainer._not_finite_in_a_row = 0
    trainer._one_update = trainer._plays_dialogues = False
    monkeypatch.setattr(SegZeroTrainer, "_dump_batch", lambda self, batch: tmp_path / "not_finite_step_5")
    return trainer


def update(trainer: SegZeroTrainer, norm: float, monkeypatch: pytest.MonkeyPatch) -> float:
    def upstream(self: Any, batch: Any, metrics: dict[str, Any]) -> Any:
        metrics.update({"actor/grad_norm": norm, "actor/pg_loss": 0.0})
        return batch

    monkeypatch.setattr(PPOTrainerSync, "_update_actor", upstream)
    metrics: dict[str, Any] = {}
    trainer._update_actor(None, metrics)  # type: ignore[arg-type]
    return float(metrics["training/updates_not_finite"])


def test_updates_that_are_not_finite_are_counted(trainer: SegZeroTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = [1.0, math.nan, math.inf, 1.0, math.nan, math.nan]
    assert [update(trainer, norm, monkeypatch) for norm in norms] == [0, 1, 2, 2, 3, 4]


def test_workers_get_whole_groups_if_prefixes_are_shared(
    trainer: SegZeroTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """verl balances single rows; its order and its measure of the balance are replaced."""
    monkeypatch.setattr(PPOTrainerSync, "_balance_batch", lambda self, batch, metrics, *_: batch)
    trainer.actor_rollout_wg = SimpleNamespace(_dispatch_info={"actor": [0, 1]})
    found: dict[str, list[int]] = {}
    for shares in (False, True):
        names = ["b", "a", "a", "b"]
        batch: Any = SimpleNamespace(
            keys=[f"{name}_{number}_0" for number, name in enumerate(names)],
            tags=[{"prompt_len": 5, "response_len": 1 + number} for number in range(4)],
            reorder=lambda order: found.update(order=order),
        )
        trainer._shares_prefixes = shares
        metrics: dict[str, Any] = {}
        assert trainer._balance_batch(batch, metrics) is batch
        if not shares:
            assert not found and not metrics
    assert found["order"] == [0, 3, 1, 2]
    assert metrics == {"global_seqlen/balanced_min": 10, "global_seqlen/balanced_max": 10}


@pytest.mark.parametrize(("updates", "ranks", "rounds"), [(1, 1, 12), (2, 1, 24), (2, 2, 24), (1, 4, 12)])
def test_an_update_takes_all_rounds_of_its_dialogues(
    trainer: SegZeroTrainer, monkeypatch: pytest.MonkeyPatch, updates: int, ranks: int, rounds: int
) -> None:
    """With 3 conversations about each dialogue. verl would make an update of as many samples as it has dialogues x 3,
    and pad up to a multiple of that."""
    trainer._plays_dialogues, trainer._updates = True, updates
    trainer.config = OmegaConf.create({"actor_rollout_ref": {"actor": {"ppo_mini_batch_size": 2}, "rollout": {"n": 3}}})
    multiple = trainer._get_required_batch_multiple(ranks)
    assert rounds % multiple == 0 and multiple % (updates * 3) == 0 and multiple % ranks == 0
    seen: list[int] = []

    def upstream(self: Any, batch: Any, metrics: dict[str, Any]) -> Any:
        actor = self.config.actor_rollout_ref
        seen.append(actor.actor.ppo_mini_batch_size * actor.rollout.n)
        return batch

    monkeypatch.setattr(PPOTrainerSync, "_update_actor", upstream)
    trainer._update_actor([None] * rounds, {})  # type: ignore[arg-type]
    assert seen == [rounds // updates]
    assert trainer.config.actor_rollout_ref.actor.ppo_mini_batch_size == 2


@pytest.mark.parametrize(("estimator", "named"), [("dialogue_grpo", True), ("grpo", False)])
def test_the_estimator_of_dialogues_gets_the_names_of_samples(
    trainer: SegZeroTrainer, monkeypatch: pytest.MonkeyPatch, estimator: str, named: bool
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(module, "name_samples", lambda batch: calls.append("named"))
    monkeypatch.setattr(module, "credited", lambda batch: {"dialogue/round_1/advantage": 0.5})
    monkeypatch.setattr(PPOTrainerSync, "_compute_advantage", lambda self, batch, metrics: calls.append("computed"))
    trainer.config = OmegaConf.create({"algorithm": {"adv_estimator": estimator}})
    metrics: dict[str, float] = {}
    trainer._compute_advantage(None, metrics)  # type: ignore[arg-type]
    assert calls == [*(["named"] * named), "computed"]
    assert metrics == ({"dialogue/round_1/advantage": 0.5} if named else {})


def test_many_of_them_in_a_row_end_the_run(trainer: SegZeroTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    update(trainer, math.nan, monkeypatch)
    update(trainer, math.nan, monkeypatch)
    with pytest.raises(RuntimeError, match=r"not finite in 3 updates in a row, the last in step 5; the batch is in"):
        update(trainer, math.nan, monkeypatch)


def test_what_an_update_reports_in_place_of_a_pass_has_the_names_of_the_pass() -> None:
    metrics = {"actor/training/rollout_probs_diff_max": 1.0, "actor/rollout_corr/kl": 2.0}
    metrics |= {"actor/entropy_loss": 3.0, "actor/lr": 4.0}
    one_update.rename(metrics)
    assert metrics == {
        "training/rollout_probs_diff_max": 1.0,
        "rollout_corr/kl": 2.0,
        "actor/entropy_loss": 3.0,
        "actor/entropy": 3.0,
        "actor/lr": 4.0,
    }


@pytest.mark.parametrize(
    ("freq", "row", "missing"),
    [
        (2, None, True),
        (2, {"step": 4, "actor/lr": 0.1}, True),
        (2, {"step": 4, "validation/gIoU": 0.5}, False),
        (2, {"step": 4, "val-aux/rows/box_iou/mean@1": 0.5}, False),
        (3, {"step": 4, "actor/lr": 0.1}, False),
        (-1, {"step": 4, "actor/lr": 0.1}, False),
    ],
)
def test_a_validation_that_a_run_did_not_come_to_is_made_on_resume(
    tmp_path: Path, freq: int, row: dict[str, Any] | None, missing: bool
) -> None:
    if row is not None:
        (tmp_path / "metrics.jsonl").write_text('{"step": 3}\n' + json.dumps(row) + "\n")
    config = OmegaConf.create({"output_dir": str(tmp_path), "trainer": {"test_freq": freq}})
    assert validation_missing(config, 4) is missing
