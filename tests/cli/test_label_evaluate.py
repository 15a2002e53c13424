"""seg-zero label evaluate: one data set, all of them, and one line for bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.radio import small_folder
from PIL import Image

from seg_zero.cli.main import main
from seg_zero.models.tiny_radio_scenes import write_scenes


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_folder(tmp_path_factory.mktemp("radio") / "small"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data sets: one of one's own, and VOC with one picture."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root, voc = tmp_path / "data", tmp_path / "data/VOCdevkit/VOC2012"
    folders = (
        "own/images",
        "own/labels",
        *(f"VOCdevkit/VOC2012/{name}" for name in ("JPEGImages", "SegmentationClass")),
    )
    for folder in (*folders, "VOCdevkit/VOC2012/ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for place in (root / "own/images/one.jpg", root / "own/images/two.jpg", voc / "JPEGImages/one.jpg"):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(place)
    for place in (root / "own/labels/one.png", root / "own/labels/two.png", voc / "SegmentationClass/one.png"):
        Image.fromarray(rng.integers(0, 3, (48, 64)).astype(np.uint8)).save(place)
    (voc / "ImageSets/Segmentation/val.txt").write_text("one\n")
    return root


def evaluate(*words: object) -> int:
    return main(["label", "evaluate", *(str(word) for word in words)])


def test_a_folder_is_judged_and_resumed(
    root: Path, backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ("--dataset", "folder", "--root", root / "own", "--labels", "sky; cat, kitten; grass", "--out", out)
    options += ("--backbone", backbone, "--templates", "single", "--denoising", "0")
    assert evaluate(*options, "--limit", "1") == 0
    assert "mIoU 0." in capsys.readouterr().out
    stored = json.loads((out / "metrics.json").read_text())
    assert stored["images"] == 1 and [one["name"] for one in stored["classes"]] == ["sky", "cat", "grass"]
    assert (out / "report.html").is_file() and stored["settings"]["method"]["templates"] == "single"
    assert evaluate(*options, "--limit", "1") == 0
    assert "0 pictures labelled" in capsys.readouterr().out
    assert evaluate(*options, "--limit", "1", "--scga-scaling", "0") == 2
    assert "other settings (method.scga_scaling was 10.0 and is None)" in capsys.readouterr().err
    assert evaluate(*options) == 2
    assert "images was 1 and is 2" in capsys.readouterr().err
    (root / "own/labels/two.png").write_bytes(b"")
    assert evaluate(*options[:-7], tmp_path / "other", *options[-6:]) == 1
    assert "error: 1 of 2 pictures could not be judged:" in capsys.readouterr().err


def test_the_embedded_backbone_is_judged_on_scenes(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scenes(root / "scenes", 6)
    options = ("--dataset", "folder", "--root", root / "scenes", "--labels", root / "scenes/labels.txt")
    assert evaluate(*options, "--out", tmp_path / "out", "--refine", "sam2") == 0
    assert capsys.readouterr().err.count("the embedded backbone knows only synthetic shapes") == 1
    stored = json.loads((tmp_path / "out/metrics.json").read_text())
    assert stored["images"] == 6 and stored["settings"]["backbone"] == "tiny"
    assert stored["mmseg"]["mIoU"] > 0.5, stored["mmseg"]


def test_all_benchmarks_below_a_folder(
    root: Path, backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--all", "--root", root, "--out", tmp_path / "out", "--backbone", backbone, "--templates", "single")
    assert evaluate(*options, "--resolution", "low", "--scga-scaling", "0") == 0
    said = capsys.readouterr().out
    assert "| voc20 | low | 0." in said and "not below" in said and "cityscapes (cityscapes)" in said
    stored = json.loads((tmp_path / "out/voc20_low/metrics.json").read_text())
    method = stored["settings"]["method"]
    assert (method["fit"], method["crop"], method["stride"]) == ([2048, 336], 224, 112)
    assert len(stored["classes"]) == 20 and (tmp_path / "out/summary.md").is_file()


def test_a_wrong_backbone_is_told_once(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--all", "--root", root, "--out", tmp_path / "out", "--backbone", "radio_v9") == 2
    assert capsys.readouterr().err.count("backbone radio_v9 is no file") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give one of --dataset NAME and --all"),
        (("--all", "--dataset", "voc20"), "give one of --dataset NAME and --all"),
        (("--dataset", "voc20", "--limit", "0"), "--limit 0 must be at least 1"),
        (("--all", "--root", "gone"), "--root gone does not exist; give the folder that holds the data sets"),
        (("--all", "--labels", "sky"), "--labels names the classes of one data set"),
        (("--dataset", "folder"), "--dataset folder has no names of classes"),
        (("--dataset", "folder", "--labels", "sky,sky"), "'sky' is given twice"),
        (("--dataset", "voc20", "--labels", "sky"), "voc20 has 20 classes, and there are 1 labels"),
        (("--dataset", "ade20k"), "images/validation does not exist"),
        (("--all", "--backbone", "none"), "no data set below"),
    ],
)
def test_bad_input_is_one_line(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--root", tmp_path, "--out", tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
