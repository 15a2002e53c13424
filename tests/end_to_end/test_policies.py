"""Every policy family, one of them with LoRA, from rollout to inference: two steps of real training, then merging.

Qwen2.5-VL is the policy of test_training.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.background import Background, needs
from helpers.training_runs import ROUNDING, Trained, greedy_texts, train

pytestmark = pytest.mark.timeout(900)


def two_steps(folder: Path, *overrides: str) -> Trained:
    """Two steps of 4 prompts x 2 samples."""
    return train(
        folder,
        24,
        2,
        "data.train_batch_size=4",
        "worker.rollout.n=2",
        "worker.actor.micro_batch_size_per_device_for_update=4",
        "worker.actor.micro_batch_size_per_device_for_experience=8",
        "trainer.save_freq=2",
        "policy.freeze_vision=false",
        *overrides,
    )


def check_agreement(metrics: list[dict[str, Any]]) -> None:
    """Before and after an update that moved the weights, vLLM computes what the actor computes."""
    assert len(metrics) == 2
    for step in metrics:
        assert step["training/rollout_probs_diff_max"] < ROUNDING, step["step"]
    assert metrics[0]["actor/kl_loss"] == pytest.approx(0, abs=1e-5)
    assert metrics[1]["actor/kl_loss"] > 1e-3
    assert 0 <= metrics[1]["actor/padding_share"] < 0.5


@dataclass(frozen=True)
class Family:
    """A model before training, its metrics, the trained model as merged, and its greedy texts by engine."""

    start: Path
    metrics: list[dict[str, Any]]
    merged: Path
    texts: dict[str, list[str]]


def family_run(folder: Path, family: str, *overrides: str) -> Family:
    from helpers.tiny_models import image_side, save_tiny_model

    from seg_zero.export.merge import merge

    model, side = save_tiny_model(family, folder / "model"), image_side(family)
    settings = [f"worker.actor.model.model_path={model}", f"policy.family={family}", f"policy.image_size={side}"]
    trained = two_steps(folder, *settings, f"policy.max_pixels={side**2}", *overrides)
    merged = merge(trained.out / "checkpoints" / "global_step_2", folder / "merged")
    return Family(model, trained.metrics, merged, greedy_texts(merged, trained.scenes, 24)[0])


# Weights move a lot, but not so far that the model answers every question alike.
ALL_WEIGHTS = ("worker.actor.optim.lr=1e-3",)
ADAPTERS = ("policy.lora.rank=8", "policy.lora.alpha=16", "worker.actor.optim.lr=1e-2")


def qwen2_vl(folder: Path) -> Family:
    return family_run(folder, "qwen2_vl", *ALL_WEIGHTS)


def qwen3_vl_with_adapters(folder: Path) -> Family:
    return family_run(folder, "qwen3_vl", *ADAPTERS)


def glm4v(folder: Path) -> Family:
    return family_run(folder, "glm4v", *ALL_WEIGHTS)


FAMILIES = {"qwen2_vl": qwen2_vl, "qwen3_vl": qwen3_vl_with_adapters, "glm4v": glm4v}


@pytest.mark.parametrize("family", [pytest.param(family, marks=needs(job)) for family, job in FAMILIES.items()])
def test_family(family: str, finished: Background) -> None:
    """Rollout, update, weight transfer, merging, and the same greedy text from transformers and vLLM."""
    from helpers.tiny_models import image_side

    from seg_zero.policy.families import spec_of_family
    from seg_zero.prompting import PromptSpec

    found = finished(FAMILIES[family])
    check_agreement(found.metrics)
    spec = PromptSpec.load(found.merged)
    assert spec == spec_of_family("brief", image_side(family), family)
    assert spec.coordinates == ("pixels" if family == "qwen2_vl" else "thousand")
    texts = found.texts["transformers"]
    assert len(set(texts)) > 1 and texts == found.texts["vllm"]


@needs(qwen3_vl_with_adapters)
def test_the_merged_folder_of_lora_is_a_whole_model_and_holds_the_adapters(finished: Background) -> None:
    """The adapters give it from the start; nothing else has changed."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    found = finished(qwen3_vl_with_adapters)
    load = AutoModelForImageTextToText.from_pretrained
    weights, base = load(found.merged, dtype="float32").state_dict(), load(found.start, dtype="float32")
    start = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    changed = {name for name in weights if not weights[name].equal(start[name])}
    assert changed and all(".language_model." in name and name.endswith("_proj.weight") for name in changed)
    adapted = PeftModel.from_pretrained(base, str(found.merged / "lora_adapter")).merge_and_unload().state_dict()
    assert max(float((adapted[name] - weights[name]).abs().max()) for name in weights) < 1e-6
