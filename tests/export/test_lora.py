"""Merging of LoRA checkpoints: into a whole model, or the adapters alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.sharded import copy_side_files
from helpers.tiny_models import save_tiny_model
from transformers import AutoModelForImageTextToText

from seg_zero.errors import InputError
from seg_zero.export.merge import merge

RANK, ALPHA = 4, 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model("qwen2_5_vl", tmp_path_factory.mktemp("models") / "base")


def load(folder: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)


def lora_model(model: Path) -> Any:
    from peft import LoraConfig, get_peft_model

    base = load(model)
    torch.manual_seed(1)
    settings = LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules="all-linear", exclude_modules=".*visual.*",
        task_type="CAUSAL_LM", init_lora_weights=False,
    )  # fmt: skip
    return get_peft_model(base, settings)


@pytest.fixture
def step(model: Path, tmp_path: Path) -> Path:
    """The checkpoint of a LoRA run: one plain shard, verl's note of the adapters' scale, the run's configuration."""
    step = tmp_path / "run" / "checkpoints" / "global_step_3"
    copy_side_files(model, step / "actor")
    torch.save(lora_model(model).state_dict(), step / "actor" / "model_world_size_1_rank_0.pt")
    (step / "actor" / "lora_train_meta.json").write_text(json.dumps({"r": RANK, "lora_alpha": ALPHA}))
    run = {"actor_rollout_ref": {"model": {"path": str(model)}}}
    (step.parents[1] / "config.yaml").write_text(json.dumps(run))
    return step


def close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return set(found) == set(expected) and all(torch.allclose(found[n], expected[n], atol=1e-6) for n in expected)


def adapted(model: Path, folder: Path) -> dict[str, torch.Tensor]:
    from peft import PeftModel

    weights: dict[str, torch.Tensor] = (
        PeftModel.from_pretrained(load(model), str(folder)).merge_and_unload().state_dict()
    )
    return weights


def test_checkpoints_become_whole_models_and_keep_their_adapters(model: Path, step: Path, tmp_path: Path) -> None:
    target = merge(step, tmp_path / "merged", verify=True)
    expected = lora_model(model).merge_and_unload().state_dict()
    assert close(load(target).state_dict(), expected)
    assert close(adapted(model, target / "lora_adapter"), expected)
    assert not close(load(model).state_dict(), expected)


@pytest.mark.parametrize("dtype", ["trained", "bfloat16"])
def test_adapters_alone(
    model: Path, step: Path, tmp_path: Path, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that PEFT loads onto the base model it names, and nothing else."""
    target = merge(step, tmp_path / "alone", dtype, lora="adapter", verify=True)
    assert {path.name for path in target.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "README.md",
    }  # fmt: skip
    named = json.loads((target / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(model)
    assert "verified" in capsys.readouterr().out
    if dtype == "trained":
        assert close(adapted(Path(named), target), lora_model(model).merge_and_unload().state_dict())


def test_rounding_of_merged_adapters_passes(step: Path, tmp_path: Path) -> None:
    """Weights are rounded once, after the adapters were added."""
    target = merge(step, tmp_path / "half", "bfloat16", verify=True)
    whole = merge(step, tmp_path / "whole")
    expected = {name: tensor.bfloat16().float() for name, tensor in load(whole).state_dict().items()}
    found = load(target).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def keep_only(step: Path, part: str) -> None:
    path = step / "actor" / "model_world_size_1_rank_0.pt"
    torch.save({name: tensor for name, tensor in torch.load(path).items() if part in name}, path)


def test_checkpoints_of_adapters_alone(model: Path, step: Path, tmp_path: Path) -> None:
    """Those of verl's save_lora_only: their adapters can be written, a whole model cannot."""
    keep_only(step, ".lora_")
    with pytest.raises(InputError, match="take --lora adapter"):
        merge(step, tmp_path / "out")
    with pytest.raises(InputError, match="--verify needs the base model's weights"):
        merge(step, tmp_path / "out", lora="adapter", verify=True)
    target = merge(step, tmp_path / "out", lora="adapter")
    assert close(adapted(model, target), lora_model(model).merge_and_unload().state_dict())


def test_what_is_missing_is_named(step: Path, tmp_path: Path) -> None:
    (step.parents[1] / "config.yaml").unlink()
    with pytest.raises(InputError, match="give --base_model"):
        merge(step, tmp_path / "out", lora="adapter")
    named = merge(step, tmp_path / "named", lora="adapter", base_model="Qwen/Qwen2.5-VL-7B-Instruct")
    config = json.loads((named / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "Qwen/Qwen2.5-VL-7B-Instruct"
    (step / "actor" / "lora_train_meta.json").unlink()
    with pytest.raises(InputError, match="has no lora_alpha"):
        merge(step, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    shutil.rmtree(named)
