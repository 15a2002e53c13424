"""Every policy family, and LoRA, from rollout to inference: two steps of real training each, then merging.

Qwen2.5-VL with all its weights is the policy of test_training.py.
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
sys.path.insert(0, str(ROOT / "tests"))

pytestmark = pytest.mark.timeout(900)

ROUNDING = 2e-3  # of float32, and the tokens that verl bans in vLLM alone


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from seg_zero.data.synthetic.rows import TRAIN_SEED, write_split

    path = tmp_path_factory.mktemp("data") / "scenes.parquet"
    write_split(path, TRAIN_SEED, 24)
    return path


def train(scenes: Path, out: Path, *overrides: str) -> list[dict[str, Any]]:
    """Two steps of 4 prompts x 2 samples; returns the metrics of each."""
    command = ["bash", str(ROOT / "training_scripts" / "run_tiny_cpu.sh"), f"output_dir={out}"]
    command += [f"data.train_files={scenes}", f"data.val_files={scenes}", "data.val_max_samples=4"]
    command += ["data.train_batch_size=4", "worker.rollout.n=2", "trainer.total_training_steps=2"]
    command += ["worker.actor.micro_batch_size_per_device_for_update=4", "worker.actor.optim.lr=1e-2"]
    command += ["worker.actor.micro_batch_size_per_device_for_experience=8", "trainer.save_freq=2"]
    command += ["policy.freeze_vision=false", "actor_rollout_ref.actor.optim.lr_warmup_steps=0"]
    result = subprocess.run(
        [*command, "trainer.test_freq=-1", "trainer.val_before_train=false", *overrides],
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}\n{(out / 'train.log').read_text()[-4000:]}"
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def check_agreement(metrics: list[dict[str, Any]]) -> None:
    """Before and after an update that moved the weights, vLLM computes what the actor computes."""
    assert len(metrics) == 2
    for step in metrics:
        assert step["training/rollout_probs_diff_max"] < ROUNDING, step["step"]
    assert metrics[0]["actor/kl_loss"] == pytest.approx(0, abs=1e-5)
    assert metrics[1]["actor/kl_loss"] > 1e-3
    assert 0 <= metrics[1]["actor/padding_share"] < 0.5


GENERATE = """
import json, sys
from seg_zero.data.source import open_rows
from seg_zero.policy import TransformersPolicy, VllmPolicy
if __name__ == "__main__":
    rows = open_rows(sys.argv[3])[:6]
    kind = {"transformers": TransformersPolicy, "vllm": VllmPolicy}[sys.argv[1]]
    policy = kind.from_pretrained(sys.argv[2], max_new_tokens=24)
    print("RESULT" + json.dumps(policy.generate([row.image() for row in rows], [row.problem for row in rows])))
"""


def greedy_texts(kind: str, model: Path, scenes: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", GENERATE, kind, str(model), str(scenes)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    texts: list[str] = next(json.loads(line[6:]) for line in result.stdout.splitlines() if line.startswith("RESULT"))
    return texts


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl"])
def test_family(family: str, scenes: Path, tmp_path: Path) -> None:
    """Rollout, update, weight transfer, merging, and the same greedy text from transformers and vLLM."""
    from helpers.tiny_models import image_side, save_tiny_model

    from seg_zero.export.merge import merge
    from seg_zero.prompting import PromptSpec

    model, side = save_tiny_model(family, tmp_path / "model"), image_side(family)
    settings = [f"worker.actor.model.model_path={model}", f"policy.family={family}", f"policy.image_size={side}"]
    check_agreement(train(scenes, tmp_path / "run", *settings, f"policy.max_pixels={side**2}"))
    merged = merge(tmp_path / "run" / "checkpoints" / "global_step_2", tmp_path / "merged")
    spec = PromptSpec.load(merged)
    assert spec == PromptSpec.of_family("brief", side, family)
    assert spec.coordinates == ("thousand" if family == "qwen3_vl" else "pixels")
    texts = greedy_texts("transformers", merged, scenes)
    assert len(set(texts)) > 1 and texts == greedy_texts("vllm", merged, scenes)


def test_lora(scenes: Path, tmp_path: Path) -> None:
    """Adapters reach vLLM; the merged folder is a whole model and holds the adapters, which give it from the start."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    from seg_zero.export.merge import merge
    from seg_zero.policy.model_files import TINY_POLICY

    metrics = train(scenes, tmp_path / "run", "policy.lora.rank=8", "policy.lora.alpha=16")
    check_agreement(metrics)
    merged = merge(tmp_path / "run" / "checkpoints" / "global_step_2", tmp_path / "merged")
    load = AutoModelForImageTextToText.from_pretrained
    weights, base = load(merged, dtype="float32").state_dict(), load(TINY_POLICY, dtype="float32")
    start = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    changed = {name for name in weights if not weights[name].equal(start[name])}
    assert changed and all(".language_model." in name and name.endswith("_proj.weight") for name in changed)
    adapted = PeftModel.from_pretrained(base, str(merged / "lora_adapter")).merge_and_unload().state_dict()
    assert max(float((adapted[name] - weights[name]).abs().max()) for name in weights) < 1e-6
