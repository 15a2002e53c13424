"""Which model a segmenter's name stands for, in both formats, and what is said of wrong ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.errors import InputError
from seg_zero.models.train_tiny_sam2 import HELD_OUT_SEED
from seg_zero.segmenter import files_of, load_segmenter
from seg_zero.segmenter.convert import convert
from seg_zero.segmenter.files import TINY_FOLDER
from seg_zero.segmenter.sam2_package import HF_MODEL_ID_TO_FILENAMES, Sam2PackageSegmenter, build_model
from seg_zero.segmenter.transformers_sam import TransformersSegmenter


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded weights in the format of transformers."""
    folder = tmp_path_factory.mktemp("loading") / "converted"
    convert(None, folder)
    return folder


def test_embedded_weights_load_alone() -> None:
    weights = torch.load(TINY_FOLDER / "model.pt", map_location="cpu", weights_only=True)["model"]
    build_model(TINY_FOLDER / "tiny_sam2.yaml").load_state_dict(weights)
    assert (TINY_FOLDER / "model.pt").stat().st_size < 10_000_000


def test_folder_loads_as_the_embedded_model(tmp_path: Path) -> None:
    for name in ("tiny_sam2.yaml", "model.pt"):
        (tmp_path / name).write_bytes((TINY_FOLDER / name).read_bytes())
    scene = next(iter(make_samples(HELD_OUT_SEED, 1))).scene
    prompts = [item.prompt for item in scene.objects]
    given, embedded = (load_segmenter(name, "cpu").segment(scene.image, prompts) for name in (tmp_path, None))
    assert (given.masks == embedded.masks).all() and embedded.masks.any()


def test_published_file_finds_its_configuration(tmp_path: Path) -> None:
    for _, name in HF_MODEL_ID_TO_FILENAMES.values():
        checkpoint = tmp_path / name
        checkpoint.write_bytes(b"not weights")
        config, found = files_of(checkpoint)
        assert config.is_file() and config.parent.name == name.split("_")[0] and found == checkpoint
    # The architecture is built, then the contents are refused.
    with pytest.raises(InputError, match=r"hiera_tiny\.pt does not hold the SAM2 weights of sam2\.1_hiera_t\.yaml"):
        load_segmenter(tmp_path / "sam2.1_hiera_tiny.pt", "cpu")


def test_hub_id_is_fetched_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(repo_id: str, filename: str) -> str:
        raise OSError(f"no route to {repo_id}/{filename}")

    monkeypatch.setattr("seg_zero.hub.unreachable", lambda: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(InputError, match=r"cannot get sam2_hiera_large\.pt of facebook/sam2-hiera-large"):
        load_segmenter("facebook/sam2-hiera-large")


def test_missing_and_wrong_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.pt.*neither a file, a folder nor a hub id"):
        load_segmenter(tmp_path / "nowhere.pt")
    with pytest.raises(InputError, match=r"holds 0 files \*\.yaml; the sam2 format needs exactly one yaml"):
        load_segmenter(tmp_path)
    config = tmp_path / "tiny_sam2.yaml"
    config.write_bytes((TINY_FOLDER / "tiny_sam2.yaml").read_bytes())
    with pytest.raises(InputError, match=r"holds 0 files \*.pt"):
        load_segmenter(tmp_path)
    checkpoint = tmp_path / "other.pt"
    contents: list[object] = [{"model": {}}, {"weights": {}}, [1, 2]]
    for content in contents:
        torch.save(content, checkpoint)
        with pytest.raises(InputError, match=r"other\.pt does not hold the SAM2 weights"):
            load_segmenter(tmp_path)
    with pytest.raises(InputError, match="none of the published names"):
        load_segmenter(checkpoint)


@pytest.mark.parametrize(
    "text", ["a: 1", "- 1", "model: [", "model:\n  _target_: os.abort", "model:\n  _target_: sam2.none"]
)
def test_configuration_builds_sam2_and_nothing_else(tmp_path: Path, text: str) -> None:
    config = tmp_path / "model.yaml"
    config.write_text(text)
    with pytest.raises(InputError, match=r"model\.yaml is no SAM2 configuration"):
        build_model(config)


def test_hydra_is_left_as_found() -> None:
    """A training process holds Hydra's global state; sam2 claims it on import, in a fork for each case."""
    code = """
import hydra, os, torchvision
from hydra.core.global_hydra import GlobalHydra
for owned in (False, True):
    if os.fork() == 0:
        if owned:
            hydra.initialize(version_base="1.1", config_path=None)
        before = GlobalHydra.instance().hydra, hydra.version.getbase()
        assert (before[0] is not None) == owned
        from seg_zero.segmenter import load_segmenter
        load_segmenter(device="cpu")
        assert (GlobalHydra.instance().hydra, hydra.version.getbase()) == before
        break
    assert os.wait()[1] == 0, f"{owned=}"
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_check_of_a_folder_imports_no_model() -> None:
    code = """
import sys
from seg_zero.segmenter import Segmenter, files_of
assert len(files_of("tiny")) == 2
print({"torch", "sam2", "transformers"} & set(sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr


def test_the_format_of_a_folder_decides(converted: Path, tmp_path: Path) -> None:
    """A hub snapshot can hold both formats; then the sam2 package reads it unless told otherwise."""
    both = tmp_path / "both"
    shutil.copytree(converted, both)
    for name in ("tiny_sam2.yaml", "model.pt"):
        (both / name).write_bytes((TINY_FOLDER / name).read_bytes())
    kinds = [type(load_segmenter(name, "cpu")) for name in (converted, both, f"transformers:{both}")]
    assert kinds == [TransformersSegmenter, Sam2PackageSegmenter, TransformersSegmenter]
    assert [path.name for path in files_of(both)] == ["tiny_sam2.yaml", "model.pt"]
    names = ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert [path.name for path in files_of(f"transformers:{both}")] == names


@pytest.mark.parametrize("name", ["facebook/sam3", "transformers:facebook/sam2.1-hiera-large"])
def test_other_hub_ids_are_fetched_as_folders(name: str, monkeypatch: pytest.MonkeyPatch, converted: Path) -> None:
    asked = []

    def snapshot(repo_id: str, allow_patterns: list[str]) -> str:
        asked.append((repo_id, allow_patterns))
        return str(converted)

    monkeypatch.setattr("seg_zero.hub.unreachable", lambda: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert isinstance(load_segmenter(name, "cpu"), TransformersSegmenter)
    assert asked == [(name.removeprefix("transformers:"), ["*.json", "*.safetensors"])]


def test_gated_repository_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(repo_id: str, allow_patterns: list[str]) -> str:
        raise OSError("401 Client Error")

    monkeypatch.setattr("seg_zero.hub.unreachable", lambda: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(InputError, match=r"cannot get segmenter facebook/sam3 \(401 Client Error\).*hf auth login"):
        load_segmenter("facebook/sam3")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "no config.json with a model_type"),
        ("config.json", "[]", "no config.json with a model_type"),
        ("config.json", '{"model_type": "sam3"}', "holds a model of type 'sam3', which takes no boxes and points"),
        ("config.json", '{"model_type": "qwen2_vl"}', "holds a model of type 'qwen2_vl'"),
        ("config.json", '{"model_type": "sam2"}', "weights have another shape than its config.json says"),
        ("model.safetensors", "no weights", "does not load as Sam2Model"),
        ("model.safetensors", None, "holds no \\*.safetensors"),
        ("preprocessor_config.json", None, "does not load as Sam2Model"),
    ],
)
def test_broken_transformers_folder_is_named(
    converted: Path, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(converted, folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_segmenter(folder, "cpu")
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_weights_are_refused(converted: Path, tmp_path: Path) -> None:
    """transformers would fill them with random numbers."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "partial"
    shutil.copytree(converted, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["mask_decoder.conv_s0.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 weights of Sam2Model, such as mask_decoder\.conv_s0\.bias"):
        load_segmenter(folder, "cpu")


def test_weights_of_another_shape_are_refused_with_both_shapes(converted: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "other"
    shutil.copytree(converted, folder)
    weights = load_file(folder / "model.safetensors")
    weights["mask_decoder.conv_s0.bias"] = weights["mask_decoder.conv_s0.bias"][:-1].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InputError, match=r"1 weight has another shape than .*conv_s0\.bias, \[\d+\] instead of \[\d+\]\)"
    ):
        load_segmenter(folder, "cpu")


def test_image_statistics_are_those_of_the_folder(converted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "grey"
    shutil.copytree(converted, folder)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"image_mean": [0.5, 0.5, 0.5]}))
    scene = next(iter(make_samples(HELD_OUT_SEED, 1))).scene
    one, other = (load_segmenter(name, "cpu").embed([scene.image])[0].coarse for name in (converted, folder))
    assert not torch.allclose(one, other, atol=1e-2)
