"""Merging of sharded checkpoints: real FSDP2 shards of one and two processes, and damaged checkpoints."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from seg_zero.cli import merge as merge_command
from seg_zero.errors import InputError
from seg_zero.training.merge import find_checkpoint, merge

# Sizes that two workers cannot halve evenly (vocabulary 97, intermediate 33) are among them.
CONFIG = {
    "text_config": {
        "vocab_size": 97, "hidden_size": 32, "intermediate_size": 33, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
    },
    "vision_config": {
        "depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32,
        "fullatt_block_indexes": [0],
    },
    "tie_word_embeddings": True,
}  # fmt: skip


def _model() -> Any:
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**CONFIG))


def _save_shard(rank: int, workers: int, port: int, actor: str) -> None:
    """What verl's checkpoint manager writes in worker ``rank``: the sharded state of an FSDP2 model."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=workers)
    model, mesh = _model(), init_device_mesh("cpu", (workers,), mesh_dim_names=("fsdp",))
    for layer in model.model.language_model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    torch.save(model.state_dict(), Path(actor) / f"model_world_size_{workers}_rank_{rank}.pt")
    torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def step_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as verl lays it out."""
    workers = request.param
    step = tmp_path_factory.mktemp("checkpoints") / "global_step_7"
    actor = step / "actor"
    (actor / "huggingface").mkdir(parents=True)
    torch.multiprocessing.spawn(_save_shard, args=(workers, _free_port(), str(actor)), nprocs=workers)
    (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": workers}))
    _model().config.save_pretrained(actor / "huggingface")
    for name in ("tokenizer.json", "processor_config.json", "chat_template.jinja", "generation_config.json"):
        (actor / "huggingface" / name).write_text("{}")
    (actor / "huggingface" / "seg_zero.json").write_text('{"template": "brief", "image_size": 112}')
    return step


def test_merged_weights_are_the_trained_ones(step_folder: Path, tmp_path: Path) -> None:
    """Same tensors, same dtype, loads in transformers; all side files are there; actor folder works too."""
    target = merge(step_folder, tmp_path / "merged")
    loaded = AutoModelForImageTextToText.from_pretrained(target)
    expected = _model().state_dict()
    assert set(loaded.state_dict()) == set(expected)
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, expected[name]), name
    copied = {path.name for path in (step_folder / "actor" / "huggingface").iterdir()}
    assert copied | {"model.safetensors"} == {path.name for path in target.iterdir()}
    assert merge(step_folder / "actor") == step_folder / "actor" / "merged"


def test_other_dtype(step_folder: Path, tmp_path: Path) -> None:
    target = merge(step_folder, tmp_path / "half", dtype="bfloat16")
    model = AutoModelForImageTextToText.from_pretrained(target)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert json.loads((target / "config.json").read_text())["dtype"] == "bfloat16"


def _copy(step: Path, to: Path) -> Path:
    """The checkpoint with links instead of files, to damage at will."""
    for path in step.rglob("*"):
        if path.is_file() and "merged" not in path.parts:
            link = to / path.relative_to(step)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return to


@pytest.mark.parametrize(
    ("remove", "write", "message"),
    [
        ("actor/model_world_size_*_rank_0.pt", None, "lacks model_world_size_"),
        ("actor/model_world_size_*_rank_0.pt", b"", "lacks model_world_size_"),
        ("actor/model_world_size_*_rank_0.pt", b"rubbish", "cannot be read"),
        ("actor/fsdp_config.json", None, "is not a training checkpoint"),
        ("actor/fsdp_config.json", b"{}", "fsdp_config.json cannot be read"),
        ("actor/huggingface/config.json", None, "has no config.json"),
    ],
)
def test_damaged_checkpoint(step_folder: Path, tmp_path: Path, remove: str, write: bytes | None, message: str) -> None:
    """One clear line, and no target folder is left."""
    step = _copy(step_folder, tmp_path / "global_step_7")
    for path in step.glob(remove):
        path.unlink()
        if write is not None:
            path.write_bytes(write)
    with pytest.raises(InputError, match=message) as error:
        merge(step, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["global_step_7"]


def test_wrong_folders(step_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_checkpoint(tmp_path / "nothing")
    with pytest.raises(InputError, match="give one of global_step_7"):
        find_checkpoint(step_folder.parent)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="is not an empty folder"):
        merge(step_folder, tmp_path / "full")


def test_command(step_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert merge_command(["--local_dir", str(step_folder), "--target_dir", str(tmp_path / "out")]) == 0
    assert str(tmp_path / "out") in capsys.readouterr().out


LORA_RANK, LORA_ALPHA = 4, 8


def _lora_model() -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    settings = LoraConfig(
        r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules="all-linear", exclude_modules=".*visual.*",
        task_type="CAUSAL_LM", init_lora_weights=False,
    )  # fmt: skip
    return get_peft_model(_model(), settings)


@pytest.fixture(scope="module")
def lora_step(step_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a LoRA run: one plain shard, and verl's note of the adapters' scale."""
    step = _copy(step_folder, tmp_path_factory.mktemp("lora") / "global_step_3")
    actor = step / "actor"
    for path in actor.glob("*.pt"):
        path.unlink()
    (actor / "fsdp_config.json").unlink()
    (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": 1}))
    torch.save(_lora_model().state_dict(), actor / "model_world_size_1_rank_0.pt")
    (actor / "lora_train_meta.json").write_text(json.dumps({"r": LORA_RANK, "lora_alpha": LORA_ALPHA}))
    return step


def test_lora_checkpoints_become_whole_models_and_keep_their_adapters(lora_step: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    target = merge(lora_step, tmp_path / "merged")
    merged = AutoModelForImageTextToText.from_pretrained(target).state_dict()
    expected = _lora_model().merge_and_unload().state_dict()
    adapted = PeftModel.from_pretrained(_model(), str(target / "lora_adapter")).merge_and_unload().state_dict()
    assert set(merged) == set(expected) == set(adapted)
    for name, tensor in expected.items():
        assert torch.allclose(merged[name], tensor, atol=1e-6), name
        assert torch.allclose(adapted[name], tensor, atol=1e-6), name
    assert any(not torch.equal(tensor, expected[name]) for name, tensor in _model().state_dict().items())


def test_lora_shards_without_their_scale_are_refused(lora_step: Path, tmp_path: Path) -> None:
    step = _copy(lora_step, tmp_path / "global_step_3")
    (step / "actor" / "lora_train_meta.json").unlink()
    with pytest.raises(InputError, match="has no lora_alpha"):
        merge(step, tmp_path / "out")
    assert not (tmp_path / "out").exists()
