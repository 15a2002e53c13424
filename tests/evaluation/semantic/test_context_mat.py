"""Pascal Context's published MATLAB files: which of the 459 categories are classes, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from seg_zero.errors import InputError
from seg_zero.evaluation.semantic.class_names import CONTEXT59
from seg_zero.evaluation.semantic.context_mat import CLASSES, read_context_mat
from seg_zero.evaluation.semantic.presets import open_set
from seg_zero.metrics.semantic import IGNORE

# From labels.txt beside the published files: 2 is aeroplane, 31 boat, 284 person, 397 table, 458 wood; 1 accordion and
# 459 wool are no classes.
VALUES = [[0, 1, 2, 31], [284, 397, 458, 459]]
NAMES = [[None, None, "aeroplane", "boat"], ["person", "diningtable", "wood", None]]


def save(path: Path, values: Any = VALUES, kind: str = "uint16", name: str = "LabelMap", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {name: np.array(values, kind)}, **options)
    return path


@pytest.mark.parametrize("compressed", [True, False])
def test_categories_become_classes(tmp_path: Path, compressed: bool) -> None:
    found = read_context_mat(save(tmp_path / "a.mat", do_compression=compressed))
    assert found.dtype == np.uint8
    assert [[None if value == IGNORE else CONTEXT59[value] for value in row] for row in found.tolist()] == NAMES


def test_the_categories_are_in_the_order_of_their_names() -> None:
    assert len(CLASSES) == len(CONTEXT59) == 59 and list(CLASSES) == sorted(set(CLASSES))
    names = ["table" if name == "diningtable" else name for name in CONTEXT59]
    assert names == sorted(names)


@pytest.mark.parametrize("sets", ["SegmentationContext", "Main"])
def test_the_published_folders_are_a_set(tmp_path: Path, sets: str) -> None:
    for name in ("2008_000002", "2008_000003"):
        save(tmp_path / "trainval" / f"{name}.mat")
        (tmp_path / "JPEGImages").mkdir(exist_ok=True)
        Image.new("RGB", (4, 2)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
    (tmp_path / "ImageSets" / sets).mkdir(parents=True)
    (tmp_path / "ImageSets" / sets / "val.txt").write_text("2008_000003\n")
    listing = open_set("context59", tmp_path).listing
    (pair,) = listing.pairs
    assert pair.truth.name == "2008_000003.mat" and pair.image.is_file()
    assert listing.truth(pair)[1, 0] == CONTEXT59.index("person")


def test_converted_maps_come_before_published_ones(tmp_path: Path) -> None:
    save(tmp_path / "trainval" / "a.mat")
    (tmp_path / "SegmentationClassContext").mkdir()
    Image.fromarray(np.array([[0, 1]], np.uint8)).save(tmp_path / "SegmentationClassContext" / "a.png")
    (tmp_path / "ImageSets/SegmentationContext").mkdir(parents=True)
    (tmp_path / "ImageSets/SegmentationContext/val.txt").write_text("a\n")
    listing = open_set("context59", tmp_path).listing
    assert listing.truth(listing.pairs[0]).tolist() == [[IGNORE, 0]]


def test_files_that_are_none_are_refused_in_one_line(tmp_path: Path) -> None:
    text, cut = tmp_path / "text.mat", save(tmp_path / "cut.mat", np.zeros((50, 50)))
    text.write_text("no MATLAB file")
    cut.write_bytes(cut.read_bytes()[:300])
    newer = tmp_path / "newer.mat"
    newer.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    for path, message in (
        (tmp_path / "nowhere.mat", "does not exist; complete the data set"),
        (text, "text.mat cannot be read"),
        (cut, "cut.mat cannot be read"),
        (newer, "newer.mat cannot be read"),
        (save(tmp_path / "name.mat", name="Labels"), "holds no LabelMap; give the files of Pascal Context's"),
        (save(tmp_path / "kind.mat", kind="float64"), "LabelMap is float64"),
        (save(tmp_path / "axes.mat", np.zeros((2, 2, 3))), "LabelMap is uint16"),
        (save(tmp_path / "none.mat", np.zeros((0, 0))), "it is to be H x W integers"),
        (save(tmp_path / "more.mat", [[460]]), "holds the value 460; Pascal Context has 0 to 459"),
        (save(tmp_path / "less.mat", [[-1]], "int16"), "holds the value -1"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            read_context_mat(path)
        assert "\n" not in str(caught.value)
