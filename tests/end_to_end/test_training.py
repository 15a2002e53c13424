"""Training as a user starts it: processes of Ray, vLLM and FSDP, on this machine's CPU.

Three runs of a few steps. They cover the launch script, metrics, checkpoints, merging, tensor parallel
rollouts with two data-parallel workers, and that new weights reach vLLM after each update.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.background import Background, needs
from helpers.training_runs import ROUNDING, Trained, greedy_texts, train

pytestmark = pytest.mark.timeout(900)


def three_steps(folder: Path, *overrides: str) -> Trained:
    """Three steps of 8 prompts x 4 samples."""
    return train(
        folder,
        48,
        3,
        "data.train_batch_size=8",
        "worker.rollout.n=4",
        "worker.actor.micro_batch_size_per_device_for_update=8",
        "worker.actor.micro_batch_size_per_device_for_experience=16",
        "data.val_max_samples=12",
        "policy.freeze_vision=false",
        *overrides,
    )


@dataclass(frozen=True)
class OneWorker:
    """A run, its merged model, its greedy texts by engine, and how many of 256 sampled answers vLLM gave."""

    trained: Trained
    merged: Path
    texts: dict[str, list[str]]
    sampled: int


def one_worker(folder: Path) -> OneWorker:
    from seg_zero.export.merge import merge

    trained = three_steps(
        folder,
        "trainer.val_before_train=true",
        "trainer.test_freq=3",
        "trainer.save_freq=3",
        "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]",
        "worker.actor.optim.lr=1e-3",
        "reward.terms.mask.weight=1",
    )
    merged = merge(trained.out / "checkpoints" / "global_step_3", folder / "merged")
    # All prompts at once are more than vLLM takes into one step; it must not cut one that has a seed.
    vllm, sampled = greedy_texts("vllm", merged, trained.scenes, 48, many=128)
    texts = {"transformers": greedy_texts("transformers", merged, trained.scenes, 48)[0], "vllm": vllm}
    return OneWorker(trained, merged, texts, sampled)


@needs(one_worker)
def test_metrics_validation_and_files_of_a_run(finished: Background) -> None:
    """Curves of every reward term, SAM2 in the reward, validation."""
    from seg_zero.rewards.presets import preset_settings, read_terms

    terms = [term.name for term in read_terms(preset_settings("seg_zero"))] + ["mask", "mask_iou", "failures"]
    out, metrics = finished(one_worker).trained.out, finished(one_worker).trained.metrics
    for step in metrics:
        assert {f"reward/{term}/mean" for term in (*terms, "score", "box_iou")} <= set(step)
        assert step["reward/score/mean"] == pytest.approx(step["critic/score/mean"], abs=1e-4)
    assert {f"val-aux/scenes/{term}/mean@1" for term in (*terms, "box_iou")} <= set(metrics[-1])
    assert all(step["reward/failures/mean"] == 0.0 < step["reward/mask_iou/mean"] for step in metrics)
    histograms = [json.loads(line) for line in (out / "validation_histograms.jsonl").read_text().splitlines()]
    assert [line["step"] for line in histograms] == [0, 3] and set(terms) <= set(histograms[-1]["terms"])
    assert all(sum(term["counts"]) == 12 for term in histograms[-1]["terms"].values())
    assert 0 < metrics[-1]["validation/gIoU"] < 1 and metrics[-1]["validation/rows"] == 12
    assert json.loads((out / "checkpoints" / "best.json").read_text())["step"] == 3
    assert (out / "validation" / "0.png").is_file() and (out / "validation" / "3.png").is_file()
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))
    assert (out / "config.yaml").is_file() and (out / "train.log").stat().st_size > 0


@needs(one_worker)
def test_the_merged_folder_is_the_trained_actor(finished: Background) -> None:
    """The same weights, and the same greedy text from transformers and vLLM."""
    from safetensors.torch import load_file

    from seg_zero.prompting import PromptSpec

    found = finished(one_worker)
    # verl gathered these itself, from the live actor.
    gathered = found.trained.out / "checkpoints" / "global_step_3" / "actor" / "huggingface" / "model.safetensors"
    actor, weights = load_file(gathered), load_file(found.merged / "model.safetensors")
    assert set(weights) == set(actor)
    assert all(weights[name].equal(actor[name].to(weights[name].dtype)) for name in weights)
    assert PromptSpec.load(found.merged) == PromptSpec("brief", 112)
    assert found.texts["vllm"] == found.texts["transformers"] and all(found.texts["vllm"])
    assert found.sampled == 256


def two_workers(folder: Path) -> Trained:
    return three_steps(
        folder,
        "trainer.n_gpus_per_node=2",
        "worker.rollout.tensor_parallel_size=2",
        "worker.actor.optim.lr=1e-2",
        "trainer.save_freq=3",
    )


@needs(two_workers)
def test_two_workers_and_tensor_parallel(finished: Background, tmp_path: Path) -> None:
    """After large updates vLLM still computes what the actor computes; a checkpoint of two workers merges."""
    from seg_zero.export.merge import merge

    trained = finished(two_workers)
    for step in trained.metrics:
        assert step["training/rollout_probs_diff_max"] < ROUNDING, step["step"]
        assert step["training/rollout_actor_probs_pearson_corr"] > 0.999
        assert step["actor/entropy"] > 0
    assert trained.metrics[-1]["actor/kl_loss"] > 0.1  # the weights did move far from the reference
    merged = merge(trained.out / "checkpoints" / "global_step_3", tmp_path / "merged")
    assert (merged / "model.safetensors").stat().st_size > 1_000_000


def skipped_update(folder: Path) -> Trained:
    worker = "skipped_sync.SkippedSync"
    return three_steps(
        folder,
        f"actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls={worker}",
        "worker.actor.optim.lr=1e-2",
        "trainer.save_freq=-1",
    )


@needs(skipped_update)
def test_a_skipped_weight_update_is_noticed(finished: Background) -> None:
    """Negative control of the check above: vLLM keeps its first weights, and the difference shows it."""
    metrics = finished(skipped_update).metrics
    assert metrics[0]["training/rollout_probs_diff_max"] < ROUNDING
    assert metrics[-1]["training/rollout_probs_diff_max"] > 50 * ROUNDING
    assert metrics[-1]["training/rollout_actor_probs_pearson_corr"] < 0.97
