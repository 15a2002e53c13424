"""The objects of a scan as COCO masks of its key frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.rooms import ROOM, SETTINGS
from PIL import Image
from pycocotools.coco import COCO

from seg_zero.masks import decode_mask
from seg_zero.online3d.inputs.mask_sources import FolderMasks
from seg_zero.online3d.results.files import read_result
from seg_zero.online3d.results.frame_masks import frame_coco
from seg_zero.online3d.scan import read_summary, scan
from seg_zero.online3d.synthetic.files import EXACT, write_sequence
from seg_zero.online3d.synthetic.sequence import SyntheticSequence

SEQUENCE = SyntheticSequence(ROOM, 12, 160, 120, turns=0.6)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames") / "room"
    write_sequence(SEQUENCE, folder)
    (folder / "depth" / "50.png").write_bytes(b"damaged")
    return folder


@pytest.fixture(scope="module")
def scanned(room: Path) -> Path:
    out = room.parent / "scan"
    scan(room, out, FolderMasks(room / EXACT), "exact", settings=SETTINGS, say=lambda line: None)
    return out


def test_each_key_frame_that_was_used_has_a_file(scanned: Path) -> None:
    names = {path.name for path in (scanned / "coco").iterdir()}
    assert names == {f"{10 * row}.json" for row in range(12) if row != 5}


def test_masks_are_those_of_the_same_object_in_every_frame(scanned: Path) -> None:
    numbers = read_result(scanned).numbers.tolist()
    objects: dict[int, set[int]] = {}
    overlaps = []
    for row in (0, 4, 11):
        data = json.loads((scanned / "coco" / f"{10 * row}.json").read_text())
        ids = SEQUENCE.view(row).ids
        for one in data["annotations"]:
            assert numbers[one["instance"]] == one["number"]
            mask = decode_mask(one["segmentation"])
            names, counts = np.unique(ids[mask], return_counts=True)
            name = int(names[counts.argmax()])
            objects.setdefault(one["instance"], set()).add(name)
            overlaps.append((mask & (ids == name)).sum() / (mask | (ids == name)).sum())
    assert len(objects) >= 6 and all(len(names) == 1 for names in objects.values())
    assert np.median(overlaps) > 0.85


def test_pycocotools_reads_the_files(room: Path, scanned: Path) -> None:
    data = COCO(str(scanned / "coco" / "40.json"))
    (picture,) = data.loadImgs(data.getImgIds())
    with Image.open(room / picture["file_name"]) as image:
        assert image.size == (picture["width"], picture["height"]) == (160, 120)
    for one in data.loadAnns(data.getAnnIds(imgIds=[40])):
        left, top, width, height = one["bbox"]
        mask = data.annToMask(one)
        assert mask.sum() == one["area"] == mask[int(top) : int(top + height), int(left) : int(left + width)].sum()
        assert mask[int(top)].any() and mask[:, int(left)].any()


def test_masks_have_the_size_of_the_picture() -> None:
    seen = np.full((3, 4), -1)
    seen[0, :2], seen[2, 3] = 1, 0
    data = frame_coco(seen, [70, 80], 5, "color/5.jpg", (8, 6))
    assert [(one["instance"], one["number"], one["area"], one["bbox"]) for one in data["annotations"]] == [
        (0, 70, 4, [6, 4, 2, 2]),
        (1, 80, 8, [0, 0, 4, 2]),
    ]


def test_the_files_can_be_left_out(room: Path, tmp_path: Path) -> None:
    scan(room, tmp_path, FolderMasks(room / EXACT), "exact", settings=SETTINGS, say=lambda line: None, coco=False)
    summary = read_summary(tmp_path)
    assert summary is not None and summary.finished and not (tmp_path / "coco").exists()
