"""Folders of the benchmarks: which files belong together, what values mean, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_zero.data.label_maps import plain, read_truth, zero_is_none
from seg_zero.errors import InputError
from seg_zero.evaluation.semantic.presets import PRESETS, RESOLUTIONS, open_set
from seg_zero.metrics.semantic import IGNORE
from seg_zero.open_vocabulary.labels import parse_labels
from seg_zero.open_vocabulary.settings import Settings
from seg_zero.open_vocabulary.windows import network_size


def save(path: Path, values: list[int] | None = None) -> None:
    """A picture, or a label map of one row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if values is None:
        Image.new("RGB", (3, 1), "navy").save(path)
    else:
        Image.fromarray(np.array([values], dtype=np.uint8)).save(path)


def voc(root: Path, sets: str, truths: str) -> None:
    save(root / "JPEGImages" / "b.jpg")
    save(root / "JPEGImages" / "a.jpg")
    save(root / "JPEGImages" / "training.jpg")
    save(root / truths / "b.png", [0, 1, 255])
    save(root / truths / "a.png", [2, 2, 2])
    (root / "ImageSets" / sets).mkdir(parents=True)
    (root / "ImageSets" / sets / "val.txt").write_text("b\na\n")


def make(name: str, root: Path, trained: bool = True) -> list[int]:
    """A data set of one or two pictures; returns what the first map means."""
    if name == "voc20":
        voc(root, "Segmentation", "SegmentationClass")
        return [IGNORE, 0, IGNORE]
    if name == "context59":
        voc(root, "SegmentationContext", "SegmentationClassContext")
        return [IGNORE, 0, IGNORE]
    if name == "ade20k":
        save(root / "images/validation/ADE_val_1.jpg")
        save(root / "images/training/ADE_train_1.jpg")
        save(root / "annotations/validation/ADE_val_1.png", [0, 1, 150])
        return [IGNORE, 0, 149]
    if name == "coco_stuff":
        save(root / "images/val2017/000000000139.jpg")
        ending = "_labelTrainIds" if trained else ""
        values = [0, 170, 255] if trained else [0, 181, 12]
        save(root / f"annotations/val2017/000000000139{ending}.png", values)
        return [0, 170, IGNORE] if trained else [0, 170, 11]
    save(root / "leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png")
    ending = "labelTrainIds" if trained else "labelIds"
    values = [0, 18, 255] if trained else [7, 33, 0]
    save(root / f"gtFine/val/lindau/lindau_000000_000019_gtFine_{ending}.png", values)
    return [0, 18, IGNORE]


@pytest.mark.parametrize(
    ("name", "trained"),
    [*((name, True) for name in PRESETS), ("coco_stuff", False), ("cityscapes", False)],
)
def test_pairs_and_values_of_each_benchmark(name: str, trained: bool, tmp_path: Path) -> None:
    meaning = make(name, tmp_path, trained)
    found = open_set(name, tmp_path)
    first = found.listing.pairs[0]
    assert first.image.is_file() and first.truth.is_file()
    assert read_truth(first.truth, found.listing.table).tolist() == [meaning]
    assert len(found.listing.pairs) == (2 if name in ("voc20", "context59") else 1)
    assert "mid resolution" in found.title and found.labels == PRESETS[name].names


def test_voc_takes_the_order_of_its_list(tmp_path: Path) -> None:
    make("voc20", tmp_path)
    assert [pair.name for pair in open_set("voc20", tmp_path).listing.pairs] == ["b", "a"]


@pytest.mark.parametrize(
    ("name", "classes"), [("voc20", 20), ("context59", 59), ("ade20k", 150), ("coco_stuff", 171), ("cityscapes", 19)]
)
def test_classes_have_one_name_each(name: str, classes: int) -> None:
    assert len(PRESETS[name].names) == len(set(PRESETS[name].names)) == classes
    assert len(parse_labels(list(PRESETS[name].names))) == classes
    assert tuple(PRESETS[name].resolutions) == RESOLUTIONS


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_presets_give_sides_that_the_backbone_takes(name: str, resolution: str) -> None:
    settings = Settings(**PRESETS[name].resolutions[resolution].settings())
    crop, stride = settings.windows(336, 224)
    assert settings.fit is not None
    longer, shorter = settings.fit
    height, width = network_size(shorter, longer, crop, stride)
    assert height % 16 == width % 16 == 0 and min(height, width) >= crop


def test_coco_numbers_leave_out_the_classes_that_were_never_annotated(tmp_path: Path) -> None:
    make("coco_stuff", tmp_path, trained=False)
    table = open_set("coco_stuff", tmp_path).listing.table
    known = table[(table < 171)]
    assert known.tolist() == list(range(171)) and table[11] == table[90] == 254


def test_a_data_set_of_ones_own(tmp_path: Path) -> None:
    save(tmp_path / "images/one.jpg")
    save(tmp_path / "labels/one.png", [0, 1, 255])
    found = open_set("folder", tmp_path, labels=["sky", "cat, kitten"])
    assert found.labels == ("sky", "cat, kitten") and found.settings == {} and found.coarse_threshold is None
    assert read_truth(found.listing.pairs[0].truth, found.listing.table).tolist() == [[0, 1, IGNORE]]


def test_what_is_wrong_with_a_data_set_is_one_line(tmp_path: Path) -> None:
    make("ade20k", tmp_path / "ade")
    (tmp_path / "empty/images").mkdir(parents=True)
    (tmp_path / "empty/labels").mkdir()
    for options, message in (
        (("ade20k", tmp_path / "nowhere"), "images/validation does not exist; give the root of the data set"),
        (("voc20", tmp_path), "val.txt cannot be read"),
        (("folder", tmp_path), "has no names of classes; give them with --labels"),
        (("folder", tmp_path / "empty", None, ["sky"]), "holds no"),
        (("folder", tmp_path, "high", ["sky"]), "--resolution high is of the benchmarks"),
        (("folder", tmp_path, None, ["x"] * 255), "255 labels are more than a label map of 8 bits can hold"),
        (("ade20k", tmp_path / "ade", None, ["sky"]), "ade20k has 150 classes, and there are 1 labels"),
        (("pascal", tmp_path), "data set 'pascal' is unknown; choose one of voc20"),
    ):
        with pytest.raises(InputError, match=message):
            open_set(*options)  # type: ignore[arg-type]


def test_what_is_wrong_with_a_label_map_is_one_line(tmp_path: Path) -> None:
    save(tmp_path / "values.png", [1, 3, 7])
    save(tmp_path / "colours.png")
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG no picture")
    Image.fromarray(np.array([[0, 300]], dtype=np.uint16)).save(tmp_path / "deep.png")
    for name, message in (
        ("values.png", "holds the value 7; its data set has 0 to 5 and 255"),
        ("colours.png", r"is in colours \(RGB\); give a PNG of label values"),
        ("damaged.png", "cannot be read"),
        ("deep.png", "holds the value 300"),
        ("missing.png", "does not exist; complete the data set"),
    ):
        with pytest.raises(InputError, match=message):
            read_truth(tmp_path / name, zero_is_none(5))
    paletted = Image.fromarray(np.array([[0, 1, 255]], dtype=np.uint8)).convert("P")
    paletted.putpalette(bytes(reversed(range(256))) * 3)
    paletted.save(tmp_path / "palette.png")
    assert read_truth(tmp_path / "palette.png", plain(2)).tolist() == [[0, 1, IGNORE]]
