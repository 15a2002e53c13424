"""Training as a user starts it: processes of Ray, vLLM and FSDP, on this machine's CPU.

Three runs of a few steps. They cover the launch script, metrics, checkpoints, merging, tensor parallel
rollouts with two data-parallel workers, and that new weights reach vLLM after each update.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "training_scripts" / "run_tiny_cpu.sh"
START_UP_AND_STEPS = 540  # seconds; about 80 on two idle cores

pytestmark = pytest.mark.timeout(900)

# Rounding of float32, and the few tokens that verl bans in vLLM alone (image placeholders), differ by less.
ROUNDING = 2e-3


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from seg_zero.data.synthetic.rows import TRAIN_SEED, write_split

    path = tmp_path_factory.mktemp("data") / "scenes.parquet"
    write_split(path, TRAIN_SEED, 48)
    return path


def train(scenes: Path, out: Path, steps: int, *overrides: str) -> list[dict[str, Any]]:
    """Run the launch script with 8 prompts x 4 samples; returns the metrics of every step."""
    command = ["bash", str(SCRIPT), f"data.train_files={scenes}", f"data.val_files={scenes}", f"output_dir={out}"]
    command += [
        "trainer.val_before_train=false",
        "data.train_batch_size=8",
        "worker.rollout.n=4",
        "data.val_max_samples=12",
        "policy.freeze_vision=false",
        "actor_rollout_ref.actor.optim.lr_warmup_steps=0",
        *overrides,
    ]
    command += ["worker.actor.micro_batch_size_per_device_for_update=8", f"trainer.total_training_steps={steps}"]
    command += ["worker.actor.micro_batch_size_per_device_for_experience=16"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=START_UP_AND_STEPS, env=environment, check=False
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}\n{(out / 'train.log').read_text()[-4000:]}"
    assert f"step {steps}/{steps}" in result.stdout
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    metrics = [m for m in metrics if m["step"]]  # without the validation before the first step
    assert [m["step"] for m in metrics] == list(range(1, steps + 1))
    return metrics


def run_python(code: str, *arguments: str) -> Any:
    """Run code in a process of its own; returns the JSON of its line that starts with "RESULT"."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return next(json.loads(line[6:]) for line in result.stdout.splitlines() if line.startswith("RESULT"))


GENERATE = """
import json, sys
from seg_zero.data.source import open_rows
from seg_zero.policy import Request, Sampling, TransformersPolicy, VllmPolicy
if __name__ == "__main__":
    kind = {"transformers": TransformersPolicy, "vllm": VllmPolicy}[sys.argv[1]]
    rows = open_rows(sys.argv[3])[:6]
    policy = kind.from_pretrained(sys.argv[2], max_new_tokens=48)
    texts = policy.generate([row.image() for row in rows], [row.problem for row in rows])
    # All prompts at once are more than vLLM takes into one step; it must not cut one that has a seed.
    many = [Request(n, rows[n % 6].image(), rows[n % 6].problem) for n in range(128 if sys.argv[1] == "vllm" else 0)]
    answers = sum(len(reply.texts) for reply in policy.stream(many, Sampling(2, 1.0)))
    print("RESULT" + json.dumps([texts, answers]))
"""


def test_one_worker(scenes: Path, tmp_path: Path) -> None:
    """Curves of every reward term, SAM2 in the reward, validation; the merged folder is the trained actor."""
    from safetensors.torch import load_file

    from seg_zero.export.merge import merge
    from seg_zero.prompting import PromptSpec
    from seg_zero.rewards.presets import preset_settings, read_terms

    terms = [term.name for term in read_terms(preset_settings("seg_zero"))] + ["mask", "mask_iou", "failures"]
    out = tmp_path / "run"
    contents = "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]"
    settings = ["trainer.save_freq=3", "trainer.test_freq=3", "worker.actor.optim.lr=1e-3", contents]
    settings.append("trainer.val_before_train=true")
    metrics = train(scenes, out, 3, *settings, "reward.terms.mask.weight=1")

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

    step_folder = out / "checkpoints" / "global_step_3"
    merged = merge(step_folder, tmp_path / "merged")
    # verl gathered these itself, from the live actor.
    actor = load_file(step_folder / "actor" / "huggingface" / "model.safetensors")
    weights = load_file(merged / "model.safetensors")
    assert set(weights) == set(actor)
    assert all(weights[name].equal(actor[name].to(weights[name].dtype)) for name in weights)
    assert PromptSpec.load(merged) == PromptSpec("brief", 112)

    found = {kind: run_python(GENERATE, kind, str(merged), str(scenes)) for kind in ("transformers", "vllm")}
    assert found["vllm"] == [found["transformers"][0], 256]
    assert all(found["vllm"][0])


def test_two_workers_and_tensor_parallel(scenes: Path, tmp_path: Path) -> None:
    """After large updates vLLM still computes what the actor computes; a checkpoint of two workers merges."""
    from seg_zero.export.merge import merge

    layout = ["trainer.n_gpus_per_node=2", "worker.rollout.tensor_parallel_size=2"]
    metrics = train(
        scenes,
        tmp_path / "run",
        3,
        *layout,
        "worker.actor.optim.lr=1e-2",
        "trainer.save_freq=3",
        "trainer.test_freq=-1",
    )
    for step in metrics:
        assert step["training/rollout_probs_diff_max"] < ROUNDING, step["step"]
        assert step["training/rollout_actor_probs_pearson_corr"] > 0.999
        assert step["actor/entropy"] > 0
    assert metrics[-1]["actor/kl_loss"] > 0.1  # the weights did move far from the reference
    merged = merge(tmp_path / "run" / "checkpoints" / "global_step_3", tmp_path / "merged")
    assert (merged / "model.safetensors").stat().st_size > 1_000_000


def test_a_skipped_weight_update_is_noticed(scenes: Path, tmp_path: Path) -> None:
    """Negative control of the check above: vLLM keeps its first weights, and the difference shows it."""
    worker = "skipped_sync.SkippedSync"
    metrics = train(
        scenes,
        tmp_path / "run",
        3,
        f"actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls={worker}",
        "worker.actor.optim.lr=1e-2",
        "trainer.save_freq=-1",
        "trainer.test_freq=-1",
    )
    assert metrics[0]["training/rollout_probs_diff_max"] < ROUNDING
    assert metrics[-1]["training/rollout_probs_diff_max"] > 50 * ROUNDING
    assert metrics[-1]["training/rollout_actor_probs_pearson_corr"] < 0.97
