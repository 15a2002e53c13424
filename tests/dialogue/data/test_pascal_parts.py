"""Masks of Pascal-Part's MATLAB files, by object, part number and part name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from seg_zero.dialogue.data.markers import MASK_DECODE, Marker, read_markers
from seg_zero.dialogue.data.mask_sources import MaskFiles
from seg_zero.errors import InputError

SIZE = (20, 12)


def block(x: int) -> np.ndarray:
    mask = np.zeros((12, 20), dtype=np.uint8)
    mask[2:9, x : x + 3] = 1
    return mask


def struct(*items: dict[str, Any]) -> np.ndarray:
    """MATLAB's row of structs."""
    row = np.zeros((1, len(items)), dtype=[(name, object) for name in items[0]])
    for place, item in enumerate(items):
        row[0, place] = tuple(item.values())
    return row


def part(name: str, x: int) -> dict[str, Any]:
    return {"part_name": name, "mask": block(x)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """a: two objects, of which the second has two parts; b: one object with one part."""
    dog = {"class": "dog", "class_ind": 12, "mask": block(1), "parts": np.zeros((0, 0))}
    bird = {
        "class": "bird",
        "class_ind": 3,
        "mask": block(5) | block(8),
        "parts": struct(part("head", 5), part("lwing", 8)),
    }
    alone = {"class": "cat", "class_ind": 8, "mask": block(3), "parts": struct(part("tail", 4))}
    savemat(tmp_path / "a.mat", {"anno": {"imname": "a", "objects": struct(dog, bird)}})
    savemat(tmp_path / "b.mat", {"anno": {"imname": "b", "objects": struct(alone)}})
    savemat(tmp_path / "other.mat", {"x": 3})
    (tmp_path / "text.mat").write_text("no MATLAB file, but a text that is long enough to have a header" * 4)
    return tmp_path


def mask_of(folder: Path, image: str, number: Any) -> np.ndarray:
    marker = Marker(MASK_DECODE, f"{image}.jpg", "pascal", number)
    (read,) = read_markers(marker.write())
    assert read == marker
    return MaskFiles({"pascal": folder}).mask(marker, folder / f"{image}.jpg", SIZE)


@pytest.mark.parametrize(
    ("image", "number", "expected"),
    [
        ("a", 1, block(1)),
        ("a", 2, block(5) | block(8)),
        ("a", "2-1", block(5)),
        ("a", "2-head", block(5)),
        ("a", "2_lwing", block(8)),
        ("b", 1, block(3)),
        ("b", "1-tail", block(4)),
    ],
)
def test_ids_name_objects_and_parts(folder: Path, image: str, number: Any, expected: np.ndarray) -> None:
    found = mask_of(folder, image, number)
    assert found.dtype == bool and np.array_equal(found, expected.astype(bool))


@pytest.mark.parametrize(
    ("image", "number", "words"),
    [
        ("a", 3, "has no mask of id 3"),
        ("a", 0, "has no mask of id 0"),
        ("a", "2-tail", "has no mask of id '2-tail'"),
        ("a", "1-1", "has no mask of id '1-1'"),
        ("a", "head-2", "has no mask of id 'head-2'"),
        ("a", None, "has no mask of id None"),
        ("other", 1, "has no anno with objects"),
        ("text", 1, "is no MATLAB file that can be read"),
        ("gone", 1, "gone.mat"),
    ],
)
def test_an_id_or_file_that_cannot_be_used_is_named(folder: Path, image: str, number: Any, words: str) -> None:
    marker = Marker(MASK_DECODE, f"{image}.jpg", "pascal", number)
    with pytest.raises(InputError, match=words):
        MaskFiles({"pascal": folder}).mask(marker, folder / f"{image}.jpg", SIZE)
