"""The eight data sets: classes, layouts, colours, and one line for what is wrong with a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.aerial_folders import make_layout, save_colours, save_labels, save_picture

from seg_zero.cli.remote_sensing.check import NAMES, SPLITS
from seg_zero.errors import InputError
from seg_zero.metrics.semantic import IGNORE
from seg_zero.remote_sensing.class_names import check_names
from seg_zero.remote_sensing.data.datasets import DATASETS
from seg_zero.remote_sensing.data.datasets import SPLITS as KNOWN_SPLITS
from seg_zero.remote_sensing.data.folders import OWN, found_below, open_tiles

LAYOUTS = [
    (name, split, number)
    for name, known in DATASETS.items()
    for split, ways in known.places.items()
    for number in range(len(ways))
]


def test_the_command_knows_the_same_names() -> None:
    assert (*DATASETS, OWN) == NAMES and SPLITS == KNOWN_SPLITS


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("dlrsd", 17, "airplane", "water"),
        ("isaid", 15, "ship", "harbor"),
        ("loveda", 8, "no-data", "Agriculture"),
        ("potsdam", 6, "Impervious surfaces", "Clutter/background"),
        ("uavid", 8, "Background clutter", "Human"),
        ("udd5", 5, "Vegetation", "Other"),
        ("vaihingen", 6, "Impervious surfaces", "Clutter/background"),
        ("vdd", 7, "Other", "Water"),
    ],
)
def test_classes_in_the_order_of_their_values(name: str, count: int, first: str, last: str) -> None:
    classes = DATASETS[name].classes
    assert (len(classes), classes[0], classes[-1]) == (count, first, last)
    assert check_names(classes, name) == classes
    colours = DATASETS[name].colours or {}
    assert {number for number in colours.values() if number != IGNORE} in (set(), set(range(count)))


@pytest.mark.parametrize(("name", "split", "number"), LAYOUTS)
def test_every_layout_is_found_from_the_folder_of_data_sets(name: str, split: str, number: int, tmp_path: Path) -> None:
    places = DATASETS[name].places[split][number]
    count = make_layout(name, tmp_path, places, ".JPG" if name in ("udd5", "vdd") else ".png")
    tiles = open_tiles(name, tmp_path, split)
    assert len(tiles) == count and tiles.classes == DATASETS[name].classes and not tiles.maps_alone
    assert tiles.image(0).shape == (4, 6, 3) and tiles.image(0).dtype == np.uint8
    assert tiles.labels(0).ravel()[:4].tolist() == [0, 1, IGNORE, 0]
    assert tiles.name(0) == f"tile_0{places[0].image_end}"


def test_the_folder_of_the_data_set_itself_is_as_good(tmp_path: Path) -> None:
    make_layout("loveda", tmp_path, DATASETS["loveda"].places["all"][0])
    assert len(open_tiles("loveda", tmp_path / "LoveDA")) == 1
    assert found_below(tmp_path) == ["loveda"]


@pytest.mark.parametrize("name", [name for name, known in DATASETS.items() if known.colours])
def test_maps_in_the_published_colours(name: str, tmp_path: Path) -> None:
    known = DATASETS[name]
    place = known.places["all"][-1][0]
    make_layout(name, tmp_path, [place])
    truth = open_tiles(name, tmp_path).listing.pairs[0].truth
    assert known.colours is not None
    save_colours(truth, list(known.colours))
    assert open_tiles(name, tmp_path).labels(0).ravel()[: len(known.colours)].tolist() == list(known.colours.values())
    save_colours(truth, [*known.colours, (1, 2, 3)])
    with pytest.raises(InputError, match=r"holds the colour \(1, 2, 3\), which its data set has not"):
        open_tiles(name, tmp_path).labels(0)


def test_pictures_of_one_name_in_several_folders_keep_apart(tmp_path: Path) -> None:
    for area in ("Rural", "Urban"):
        save_picture(tmp_path / f"LoveDA/Train/{area}/images_png/7.png")
        save_labels(tmp_path / f"LoveDA/Train/{area}/masks_png/7.png", [0 if area == "Rural" else 3])
    tiles = open_tiles("loveda", tmp_path, "train")
    assert [tiles.name(index) for index in range(2)] == ["Train_Rural_7", "Train_Urban_7"]
    assert [tiles.labels(index)[0, 0] for index in range(2)] == [0, 3]


def test_a_folder_of_ones_own_with_splits(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text(json.dumps(["road", "roof"]))
    for split, count in (("train", 2), ("val", 1)):
        for number in range(count):
            save_picture(tmp_path / split / f"images/{split}{number}.png")
            save_labels(tmp_path / split / f"labels/{split}{number}.png", [1])
    assert [len(open_tiles("folder", tmp_path, split)) for split in ("all", "train", "val")] == [3, 2, 1]
    assert open_tiles("folder", tmp_path).classes == ("road", "roof")


def test_maps_without_a_picture_are_named(tmp_path: Path) -> None:
    make_layout("dlrsd", tmp_path, DATASETS["dlrsd"].places["all"][0])
    save_labels(tmp_path / "DLRSD/D2masks/alone.png", [0])
    assert [path.name for path in open_tiles("dlrsd", tmp_path).maps_alone] == ["alone.png"]


def test_what_is_wrong_with_a_folder_is_one_line(tmp_path: Path) -> None:
    own = tmp_path / "own"
    save_picture(own / "images/a.png")
    save_labels(own / "labels/a.png", [0])
    for options, message in (
        (("loveda", tmp_path / "nowhere"), "nowhere does not exist; give that of the data set"),
        (("loveda", tmp_path), "holds no loveda .images_png with masks_png; or Train"),
        (("lovda", tmp_path), "data set 'lovda' is unknown; did you mean loveda?"),
        (("vaihingen", tmp_path, "train"), "vaihingen has no split 'train' here; it has all"),
        (("loveda", tmp_path, "test"), "split 'test' is unknown; choose one of all, train, val"),
        (("folder", own), "classes.json does not exist; make it a list"),
    ):
        with pytest.raises(InputError, match=message):
            open_tiles(*options)  # type: ignore[arg-type]
    for text, message in (
        ("{", "cannot be read"),
        ("{}", "holds no list of names"),
        ("[]", "classes.json: no class name"),
        ('["Road", "road"]', "class names 'Road' and 'road' differ only in case or spaces"),
        ('["road", "road"]', "'road' is given twice"),
        ('["road", " "]', "class name ' ' is no word"),
        (
            json.dumps([f"class {n}" for n in range(255)]),
            "255 classes are more than .* can hold, 254",
        ),
    ):
        (own / "classes.json").write_text(text)
        with pytest.raises(InputError, match=message):
            open_tiles("folder", own)
