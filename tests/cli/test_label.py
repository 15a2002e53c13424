"""seg-zero label: files, folders, and one line for bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.radio import small_folder
from helpers.scripted_policy import ScriptedPolicy
from PIL import Image

from seg_zero.cli.main import main
from seg_zero.models.tiny_radio_scenes import PAIRS, held_out
from seg_zero.open_vocabulary.result import LabelledImage
from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
from seg_zero.prompting import PromptSpec


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_folder(tmp_path_factory.mktemp("radio") / "small"))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate(("one.png", "two.jpg")):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def label(*words: object) -> int:
    return main(["label", *(str(word) for word in words)])


def test_a_folder_is_labelled_with_all_outputs(
    photos: Path, backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    every = "labels,overlay,probabilities,panoptic"
    options = ("--labels", "sky; cat, kitten", "--backbone", backbone, "--denoising", "0", "--templates", "single")
    assert label(photos, *options, "--output-path", out, "--outputs", every, "--heatmaps", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(line["image"]).name for line in lines] == ["one.png", "two.jpg"]
    assert lines[0]["size"] == [64, 40] and sum(lines[0]["areas"].values()) == pytest.approx(1)
    assert sorted(lines[0]["files"]) == ["heatmaps", "labels", "overlay", "panoptic", "probabilities"]
    assert all(Path(file).is_file() for line in lines for file in line["files"].values())
    stored = np.load(out / "one_probabilities.npz")
    labels = np.asarray(Image.open(out / "one_labels.png"))
    assert stored["probabilities"].shape == (2, 40, 64) and stored["names"].tolist() == ["sky", "cat"]
    assert float((stored["probabilities"].argmax(0) + 1 == labels).mean()) > 0.99
    panoptic = json.loads((out / "panoptic.json").read_text())
    assert [image["file_name"] for image in panoptic["images"]] == ["one.png", "two.jpg"]
    assert [category["name"] for category in panoptic["categories"]] == ["sky", "cat"]
    coded = np.asarray(Image.open(out / "panoptic" / "one.png")).astype(int) @ [1, 256, 65536]
    assert np.array_equal(coded, labels)
    for segment in panoptic["annotations"][0]["segments_info"]:
        rows, columns = np.nonzero(labels == segment["category_id"])
        left, top, width, height = segment["bbox"]
        assert (left, top, left + width, top + height) == (
            columns.min(), rows.min(), columns.max() + 1, rows.max() + 1,
        )  # fmt: skip
        assert segment["area"] == len(rows)


def test_a_scene_is_labelled_out_of_the_box(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = held_out(1)[0]
    Image.fromarray(scene.image).save(tmp_path / "scene.png")
    names = [PAIRS[number - 1] for number in np.unique(scene.pairs) if number]
    options = ("--labels", ",".join(["background", *names]), "--refine", "sam2", "--output_path", tmp_path / "out")
    assert label(tmp_path / "scene.png", *options) == 0
    said = capsys.readouterr().err
    assert said.count("the embedded backbone knows only synthetic shapes") == 1
    values = np.asarray(Image.open(tmp_path / "out/scene_labels.png"))
    expected = np.searchsorted([0, *(1 + PAIRS.index(name) for name in names)], scene.pairs) + 1
    assert float((values == expected).mean()) > 0.9


def test_without_an_image_the_example_is_labelled(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label("--output_path", tmp_path / "out", "--templates", "single") == 0
    printed = capsys.readouterr()
    assert "note: no image given: the example " in printed.err and "green circle" in printed.out
    assert (tmp_path / "out/example_overlay.png").is_file()


def test_what_is_labelled_before_an_interruption_is_in_the_panoptic_file(
    photos: Path, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = OpenVocabularySegmenter.segment

    def interrupted(segmenter: OpenVocabularySegmenter, image: Path, labels: list[str]) -> LabelledImage:
        if image.name == "two.jpg":
            raise KeyboardInterrupt
        return segment(segmenter, image, labels)

    monkeypatch.setattr(OpenVocabularySegmenter, "segment", interrupted)
    options = ("--labels", "sky,grass", "--backbone", backbone, "--templates", "none", "--outputs", "panoptic")
    assert label(photos, *options, "--output_path", tmp_path / "out") == 130
    panoptic = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [image["file_name"] for image in panoptic["images"]] == ["one.png"]


def test_edges_are_redrawn_by_a_segmenter(photos: Path, backbone: str, tmp_path: Path) -> None:
    options = ("--labels", "sky,grass", "--backbone", backbone, "--denoising", "0", "--templates", "none")
    refine = ("--refine", "sam2", "--minimal_area", "4", "--iou_threshold", "0", "--coarse_threshold", "0")
    one = photos / "one.png"
    assert label(one, *options, "--output_path", tmp_path / "coarse") == 0
    assert label(one, *options, *refine, "--output_path", tmp_path / "refined") == 0
    coarse, refined = (np.asarray(Image.open(tmp_path / kind / "one_labels.png")) for kind in ("coarse", "refined"))
    assert coarse.shape == refined.shape and (coarse != refined).any()


def test_a_damaged_picture_of_a_folder_does_not_stop_the_others(
    photos: Path, backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    assert label(photos, "--labels", "sky,grass", "--backbone", backbone, "--output_path", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert "one.png" in printed.out and "two.jpg" in printed.out
    assert "1 of 3 pictures could not be labelled" in printed.err and "broken.png" in printed.err


def test_a_question_makes_the_labels_of_each_picture(
    backbone: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def load(name: str, *, spec: PromptSpec, device: str | None) -> ScriptedPolicy:
        asked.append((name, spec.text))
        return ScriptedPolicy({"what is wet?": '<answer>["sky", "cat"]</answer>'})

    monkeypatch.setattr("seg_zero.policy.loading.load_policy", load)
    options = ("--backbone", backbone, "--templates", "single", "--denoising", "0", "--output_path", tmp_path / "out")
    words = ("--question", "what is wet?", "--model", "tiny", "--labels", "grass, cat")
    assert label(photos / "one.png", *words, *options, "--json") == 0
    line = json.loads(capsys.readouterr().out)
    assert set(line["areas"]) <= {"sky", "cat", "grass"} and asked[0][0] == "tiny" and "JSON list" in str(asked[0][1])
    assert (tmp_path / "out/one_overlay.png").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "sky,,grass"], "label 2, '', is empty"),
        (["--labels", "sky,sky"], "'sky' is given twice"),
        (["--labels", "gone.txt"], "labels gone.txt cannot be read"),
        (["--labels", "sky", "--outputs", "mask"], "--outputs: 'mask' is not known; choose of labels,overlay"),
        (["--labels", "sky", "--crop", "330"], "crop 330 is no multiple of 16; take 320 or 336"),
        (["--labels", "sky", "--templates", "photos"], "templates 'photos' are unknown"),
        (["--labels", "sky", "--minimal-area", "9"], "--minimal_area belongs to --refine"),
        (["--labels", "sky", "--sam", "x"], "--sam belongs to --refine sam; add that"),
        (["--labels", "sky", "--refine", "sam", "--segmenter", "x"], "--segmenter belongs to --refine sam2; add that"),
        (["--labels", "sky", "--compat", "released"], "--compat belongs to --refine sam"),
        (
            ["--labels", "sky", "--scga_scaling", "-1"],
            "scga_scaling -1 is outside 0..1000; take 10, or to do without, --",
        ),
        (["--labels", "sky, \U0001f534"], "label 2, '\U0001f534', has no letter or digit; give a word"),
        (["--labels", "sky", "--refine", "sam2", "--iou_threshold", "9"], "iou_threshold 9 is no fraction"),
        (["--labels", "sky", "--backbone", "radio_v9"], "backbone radio_v9 is no file"),
        (["--labels", "sky", "--treshold", "0.1"], "did you mean --threshold?"),
        ([], "give --labels, or a --question"),
        (["--question", "what is wet?"], "--question and --model belong together"),
        (["--labels", "sky", "--model", "tiny"], "--question and --model belong together"),
        (["--question", "?!", "--model", "tiny"], "is empty"),
        (["--question", "what is wet?", "--model", "tiny", "--outputs", "panoptic"], "--outputs panoptic has one list"),
    ],
)
def test_bad_input_is_one_line(
    photos: Path, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label(photos, *options, "--output_path", tmp_path / "out") == 2
    printed = capsys.readouterr().err
    assert message in printed and len(printed.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_places_that_would_be_overwritten_are_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert label(photos, "--labels", "sky", "--output_path", photos) == 2
    assert "holds images that are labelled" in capsys.readouterr().err
    assert label(photos, "--labels", "sky", "--output_path", photos / "one.png") == 2
    assert label(photos / "gone.png", "--labels", "sky") == 2
    assert "does not exist" in capsys.readouterr().err
