"""Training as a user starts it: processes of Ray, vLLM and FSDP, on this machine's CPU.

Two runs of a few steps. They cover the launch script, metrics, checkpoints, merging, tensor parallel
rollouts with two data-parallel workers, and that new weights reach vLLM after each update.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.background import Background, needs
from helpers.training_runs import ROUNDING, Trained, train
from helpers.whole_run import STEPS, VALIDATED, uninterrupted

pytestmark = pytest.mark.timeout(900)


@needs(uninterrupted)
def test_metrics_validation_and_files_of_a_run(finished: Background) -> None:
    """Curves of every reward term, SAM2 in the reward, validation."""
    from seg_zero.rewards.presets import preset_settings, read_terms

    terms = [term.name for term in read_terms(preset_settings("seg_zero"))] + ["mask", "mask_iou", "failures"]
    out, metrics = finished(uninterrupted).out, finished(uninterrupted).metrics
    for step in metrics:
        assert {f"reward/{term}/mean" for term in (*terms, "score", "box_iou")} <= set(step)
        assert step["reward/score/mean"] == pytest.approx(step["critic/score/mean"], abs=1e-4)
    assert {f"val-aux/scenes/{term}/mean@1" for term in (*terms, "box_iou")} <= set(metrics[-1])
    assert all(step["reward/failures/mean"] == 0.0 < step["reward/mask_iou/mean"] for step in metrics)
    histograms = [json.loads(line) for line in (out / "validation_histograms.jsonl").read_text().splitlines()]
    assert [line["step"] for line in histograms] == [0, 2, 4, 6] and set(terms) <= set(histograms[-1]["terms"])
    assert all(sum(term["counts"]) == VALIDATED for term in histograms[-1]["terms"].values())
    assert 0 < metrics[-1]["validation/gIoU"] < 1 and metrics[-1]["validation/rows"] == VALIDATED
    giou = {step["step"]: step["validation/gIoU"] for step in metrics if "validation/gIoU" in step}
    assert giou[json.loads((out / "checkpoints" / "best.json").read_text())["step"]] == max(giou.values())
    assert all((out / "validation" / f"{step}.png").is_file() for step in (0, 2, 4, 6))
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))
    assert (out / "config.yaml").is_file() and (out / "train.log").stat().st_size > 0


@needs(uninterrupted)
def test_the_merged_folder_is_the_trained_actor(finished: Background) -> None:
    """The same weights, and the same greedy text from transformers and vLLM."""
    from safetensors.torch import load_file

    from seg_zero.prompting import PromptSpec

    found = finished(uninterrupted)
    # verl gathered these itself, from the live actor.
    gathered = found.out / "checkpoints" / f"global_step_{STEPS}" / "actor" / "huggingface" / "model.safetensors"
    actor, weights = load_file(gathered), load_file(found.merged / "model.safetensors")
    assert set(weights) == set(actor)
    assert all(weights[name].equal(actor[name].to(weights[name].dtype)) for name in weights)
    assert PromptSpec.load(found.merged) == PromptSpec("brief", 112)
    assert found.texts["vllm"] == found.texts["transformers"] and all(found.texts["vllm"])
    assert found.sampled == 256


LOADED = 3  # the same in skipped_sync.py, which cannot be imported here: verl would look for its platform


def two_workers(folder: Path) -> Trained:
    """Four steps; vLLM does not get the weights of the third update."""
    return train(
        folder,
        48,
        4,
        "trainer.n_gpus_per_node=2",
        "worker.rollout.tensor_parallel_size=2",
        "data.train_batch_size=8",
        "worker.rollout.n=4",
        "worker.actor.micro_batch_size_per_device_for_update=8",
        "worker.actor.micro_batch_size_per_device_for_experience=16",
        "worker.actor.optim.lr=1e-2",
        "policy.freeze_vision=false",
        "trainer.save_freq=4",
        "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls=skipped_sync.SkippedSync",
    )


@needs(two_workers)
def test_two_workers_and_tensor_parallel(finished: Background, tmp_path: Path) -> None:
    """After large updates vLLM still computes what the actor computes; a checkpoint of two workers merges."""
    from seg_zero.export.merge import merge

    trained = finished(two_workers)
    synced = trained.metrics[:LOADED]
    for step in synced:
        assert step["training/rollout_probs_diff_max"] < ROUNDING, step["step"]
        assert step["training/rollout_actor_probs_pearson_corr"] > 0.999
        assert step["actor/entropy"] > 0
    assert synced[-1]["actor/kl_loss"] > 0.1  # the weights did move far from the reference
    merged = merge(trained.out / "checkpoints" / "global_step_4", tmp_path / "merged")
    assert (merged / "model.safetensors").stat().st_size > 1_000_000


@needs(two_workers)
def test_a_skipped_weight_update_is_noticed(finished: Background) -> None:
    """Negative control of the check above: vLLM keeps old weights, and the difference shows it."""
    last = finished(two_workers).metrics[LOADED]
    assert last["training/rollout_probs_diff_max"] > 50 * ROUNDING
    assert last["training/rollout_actor_probs_pearson_corr"] < 0.97
