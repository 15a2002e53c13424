"""Merging of sharded checkpoints: real FSDP2 and FSDP1 shards of one to four processes, and damaged checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from helpers.sharded import LAYOUTS, Job, save_checkpoints
from helpers.tiny_models import save_tiny_model
from transformers import AutoModelForImageTextToText

from seg_zero.cli.merge import main as merge_command
from seg_zero.errors import InputError
from seg_zero.export import merge as merging
from seg_zero.export import shards
from seg_zero.export.merge import VerificationError, merge
from seg_zero.policy.families import FAMILIES
from seg_zero.policy.model_files import default_spec
from seg_zero.prompting import PromptSpec, PromptTemplate

pytestmark = pytest.mark.timeout(300)  # four processes write the checkpoints

TWO_WORKERS = "FSDP1, two workers"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder of each family, by family, and checkpoints of them, by family or layout."""
    base = tmp_path_factory.mktemp("merge")
    found = {family: save_tiny_model(family, base / family) for family in FAMILIES}
    jobs = [Job(found["qwen2_5_vl"], base / layout / "checkpoints" / "global_step_7", layout) for layout in LAYOUTS]
    jobs += [Job(found[family], base / f"step {family}" / "global_step_7") for family in FAMILIES]
    save_checkpoints(jobs)
    return {
        **{f"model {family}": folder for family, folder in found.items()},
        **{job.layout: job.step for job in jobs[: len(LAYOUTS)]},
        **{family: job.step for family, job in zip(FAMILIES, jobs[len(LAYOUTS) :], strict=True)},
    }


def file_bytes(folder: Path, *patterns: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for pattern in patterns for path in folder.glob(pattern)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_trained_weights(folders: dict[str, Path], tmp_path: Path, layout: str) -> None:
    """The same file as save_pretrained wrote of the model that was sharded."""
    target = merge(folders[layout], tmp_path / "merged")
    model = folders["model qwen2_5_vl"]
    assert file_bytes(target, "*.safetensors") == file_bytes(model, "*.safetensors")


@pytest.mark.parametrize("size", ["1MB", "5GB"])
@pytest.mark.parametrize("family", FAMILIES)
def test_files_are_those_of_save_pretrained(folders: dict[str, Path], tmp_path: Path, family: str, size: str) -> None:
    """Weights, index and configuration, byte by byte, in one file or several."""
    target = merge(folders[family], tmp_path / "merged", dtype="bfloat16", max_shard_size=size)
    model = AutoModelForImageTextToText.from_pretrained(folders[f"model {family}"], dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "expected", max_shard_size=size)
    patterns = ("*.safetensors", "model.safetensors.index.json", "config.json", "generation_config.json")
    expected = file_bytes(tmp_path / "expected", *patterns)
    assert file_bytes(target, *patterns) == expected
    assert (len(expected) > 4) == (size == "1MB")


def test_side_files_are_kept_and_the_actor_folder_will_do(folders: dict[str, Path], tmp_path: Path) -> None:
    step = folders[TWO_WORKERS]
    target = merge(step / "actor")
    assert target == step / "actor" / "merged"
    files = step / "actor" / "huggingface"
    assert {path.name for path in files.iterdir()} | {"model.safetensors", "README.md"} == {
        path.name for path in target.iterdir()
    }
    for path in files.iterdir():
        assert path.name == "config.json" or path.read_bytes() == (target / path.name).read_bytes(), path.name
    shutil.rmtree(target)


@pytest.mark.parametrize("dtype", ["trained", "bfloat16", "float16"])
def test_verified_weights_in_any_dtype(
    folders: dict[str, Path], tmp_path: Path, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was written is exactly what the shards give in that dtype; the cost of rounding is printed beside it."""
    target = merge(folders["FSDP2, three workers"], tmp_path / "merged", dtype=dtype, verify=True)
    printed = capsys.readouterr().out
    assert "largest difference of logits 0," in printed
    assert ("rounding of weights changed 0\n" in printed) == (dtype == "trained")
    model = AutoModelForImageTextToText.from_pretrained(target)
    wanted = "float32" if dtype == "trained" else dtype
    assert {str(p.dtype) for p in model.parameters()} == {f"torch.{wanted}"}
    assert json.loads((target / "config.json").read_text())["dtype"] == wanted


@pytest.mark.parametrize("layout", ["FSDP2, replicas", "FSDP1, no mesh"])
def test_wrongly_merged_weights_are_noticed(
    folders: dict[str, Path], tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """One matrix with its halves exchanged: --verify names the difference, exits with 1, leaves no folder."""
    right = shards.merge_tensor

    def wrong(name: str, parts: Any, dtype: torch.dtype) -> torch.Tensor:
        tensor = right(name, parts, dtype)
        return tensor.roll(len(tensor) // 2, 0) if name.endswith("layers.1.mlp.up_proj.weight") else tensor

    monkeypatch.setattr(shards, "merge_tensor", wrong)
    with pytest.raises(VerificationError, match="largest difference of logits"):
        merge(folders[layout], tmp_path / "merged", verify=True)
    command = ["--local_dir", str(folders[layout]), "--target_dir", str(tmp_path / "merged")]
    assert merge_command([*command, "--verify"]) == 1
    assert "the folder was removed" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert merge_command(command) == 0


def copy_of(step: Path, to: Path) -> Path:
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
        ("actor/fsdp_config.json", None, "holds shards but no fsdp_config.json"),
        ("actor/fsdp_config.json", b"{}", "fsdp_config.json cannot be read"),
        ("actor/fsdp_config.json", b'{"world_size": 0}', "lacks"),
        ("actor/huggingface/config.json", None, "has no config.json"),
        ("actor/huggingface/config.json", b'{"model_type": "qwen2_5_vl"}', "does not fit the shards"),
        ("actor/huggingface/config.json", b'{"model_type": "unheard_of"}', "does not fit the shards"),
        ("actor/huggingface/tokenizer.json", b"{}", "its processor cannot be loaded"),
    ],
)
def test_damaged_checkpoint(
    folders: dict[str, Path], tmp_path: Path, remove: str, write: bytes | None, message: str
) -> None:
    """One clear line, and no target folder is left."""
    step = copy_of(folders[TWO_WORKERS], tmp_path / "global_step_7")
    for path in step.glob(remove):
        path.unlink()
        if write is not None:
            path.write_bytes(write)
    with pytest.raises(InputError, match=message) as error:
        merge(step, tmp_path / "out", verify="tokenizer" in remove)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["global_step_7"]


class Harmful:
    """Would write a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("harm", [True, False], ids=["code", "not a tensor"])
def test_shards_cannot_run_code(folders: dict[str, Path], tmp_path: Path, harm: bool) -> None:
    step = copy_of(folders[TWO_WORKERS], tmp_path / "global_step_7")
    shard = next(step.glob("actor/*_rank_1.pt"))
    shard.unlink()
    torch.save({"weight": Harmful(tmp_path / "harm") if harm else 3}, shard)
    with pytest.raises(InputError, match="cannot be read" if harm else "does not hold named tensors"):
        merge(step, tmp_path / "out")
    assert not (tmp_path / "harm").exists()


def test_shards_of_two_checkpoints_do_not_mix(folders: dict[str, Path], tmp_path: Path) -> None:
    step = copy_of(folders[TWO_WORKERS], tmp_path / "global_step_7")
    shard = next(step.glob("actor/*_rank_1.pt"))
    shard.unlink()
    torch.save({"weight": torch.zeros(2)}, shard)
    with pytest.raises(InputError, match="hold different tensors"):
        merge(step, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"local_dir": "nothing"}, "does not exist"),
        ({"local_dir": ".."}, "give one of global_step_7"),
        ({"target_dir": "full"}, "is not an empty folder"),
        ({"max_shard_size": "big"}, "is not a size"),
        ({"max_shard_size": "0GB"}, "is not a size"),
        ({"lora": "adapter"}, "is not of a LoRA run"),
    ],
)
def test_wrong_options(folders: dict[str, Path], tmp_path: Path, options: dict[str, Any], message: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    local = folders[TWO_WORKERS] / options.pop("local_dir", "")
    with pytest.raises(InputError, match=message):
        merge(local.resolve(), tmp_path / options.pop("target_dir", "out"), **options)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_noticed_before_anything_is_written(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(merging.shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    with pytest.raises(InputError, match=r"needs 0\.0 GB, but its disk has 0\.0 GB left"):
        merge(folders[TWO_WORKERS], tmp_path / "new" / "out")
    assert not list(tmp_path.iterdir())


def test_command(folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert merge_command(["--local_dir", str(folders[TWO_WORKERS]), "--target_dir", str(tmp_path / "out")]) == 0
    assert str(tmp_path / "out") in capsys.readouterr().out


def test_a_prompt_template_is_written_beside_the_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    words = PromptTemplate("mine: {question}", "single", newline=True, normalisation="published", image_size=448)
    words.write(tmp_path / "prompt.json")
    step, target = folders[TWO_WORKERS], tmp_path / "out"
    given = ["--local_dir", str(step), "--prompt_template", str(tmp_path / "prompt.json")]
    assert merge_command([*given, "--target_dir", str(target)]) == 0
    before = PromptSpec.load(step / "actor" / "huggingface")
    assert before is not None and PromptSpec.load(target) == default_spec(str(target)) == words.applied_to(before)
    with pytest.raises(InputError, match="--prompt_template has no place in a folder of adapters"):
        merge_command([*given, "--target_dir", str(tmp_path / "adapter"), "--lora", "adapter"])


@pytest.fixture
def mesh() -> Iterator[Any]:
    """Makes device meshes of any shape, in which this process is number 0."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", rank=0, world_size=6, store=FakeStore())
    yield lambda *shape: init_device_mesh("cpu", shape)
    torch.distributed.destroy_process_group()


def test_workers_without_rows_and_unknown_placements(mesh: Any) -> None:
    """Two rows for three workers leave one without; sharding over two mesh dimensions is refused."""
    from torch.distributed.tensor import DTensor, Replicate, Shard

    rows = torch.arange(6.0).reshape(2, 3)

    def part(local: torch.Tensor, shape: tuple[int, ...], *placements: Any) -> DTensor:
        return DTensor.from_local(local, mesh(*shape), placements, shape=rows.shape, stride=rows.stride())

    def merged(parts: list[Any]) -> torch.Tensor:
        return shards.merge_tensor("rows", parts, torch.float32)

    parts = [part(rows[i : i + 1], (3,), Shard(0)) for i in range(3)]
    assert torch.equal(merged(parts), rows)
    assert torch.equal(merged([part(rows, (2, 3), Replicate(), Replicate())] * 6), rows)
    with pytest.raises(InputError, match="has 3 rows, not 2; shards do not match"):
        merged(parts[:1] * 3)
    with pytest.raises(InputError, match="not supported"):
        merged([part(rows, (2, 3), Shard(1), Shard(0))] * 6)
    with pytest.raises(InputError, match="differs between workers"):
        merged([rows, rows + 1])
