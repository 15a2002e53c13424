"""Files of other tools: read back by the tools' own readers where they are installed, else by their formats' rules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.answers import answer_of, disc
from PIL import Image
from pycocotools.coco import COCO

from seg_zero.cli.main import main
from seg_zero.data.source import open_rows
from seg_zero.masks import paint_polygon
from seg_zero.metrics import iou_of
from seg_zero.results.collection import AnswerCollection
from seg_zero.results.label_studio import labelling_config, pack_brush
from seg_zero.results.outlines import outlines
from seg_zero.results.outputs import KINDS

SIZE = (160, 120)
RING = disc(SIZE, (80, 60), 40) & ~disc(SIZE, (80, 60), 25)
TWO_PIECES = disc(SIZE, (30, 30), 15) | disc(SIZE, (120, 90), 20)
MASKS = [disc(SIZE, (40, 40), 20), disc(SIZE, (110, 70), 30)]


def same(one: np.ndarray, other: np.ndarray) -> float:
    return iou_of(int((one & other).sum()), int((one | other).sum()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos in folders beside each other, and the answers to three questions about them in ``out``."""
    collection = AnswerCollection(KINDS)
    for name in ("cups/a.png", "plates/b.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True)
        answer_of([]).image.save(path)
    a, b = (str(tmp_path / "photos" / name) for name in ("cups/a.png", "plates/b.png"))
    collection.add(answer_of(MASKS, question="all cups"), "a", a)
    collection.add(answer_of([RING, TWO_PIECES], question="the file_name on a plate"), "a", a)
    collection.add(answer_of(MASKS[:1], question="all cups"), "b", b)
    files = collection.write(tmp_path / "out")
    assert set(files) == set(KINDS)
    return tmp_path


def test_coco_files_are_read_by_cocos_own_reader(folder: Path) -> None:
    truth = COCO(str(folder / "out" / "coco.json"))
    assert [truth.imgs[number]["file_name"] for number in (1, 2)] == ["cups/a.png", "plates/b.png"]
    assert [one["name"] for one in truth.loadCats([1, 2])] == ["all cups", "the file_name on a plate"]
    masks = [truth.annToMask(one).astype(bool) for one in truth.loadAnns(truth.getAnnIds(imgIds=[1]))]
    for found, mask in zip(masks, [*MASKS, RING, TWO_PIECES], strict=True):
        assert (found == mask).all()
    first = truth.anns[1]
    assert first["bbox"] == [21, 21, 39, 39] and first["area"] == MASKS[0].sum() and first["score"] == 0.9
    assert sorted(truth.anns) == [1, 2, 3, 4, 5], "ids are different"
    results = truth.loadRes(str(folder / "out" / "coco_results.json"))
    assert len(results.anns) == 5 and results.anns[5]["image_id"] == 2


def test_coco_has_what_fiftyone_reads(folder: Path) -> None:
    """fiftyone.utils.coco: files below data_path, boxes of whole annotations, run lengths of the image's size."""
    made = json.loads((folder / "out" / "coco.json").read_text())
    sizes = {one["id"]: (one["height"], one["width"]) for one in made["images"]}
    assert all((folder / "photos" / one["file_name"]).is_file() for one in made["images"])
    assert all(tuple(one["segmentation"]["size"]) == sizes[one["image_id"]] for one in made["annotations"])
    assert all(one["iscrowd"] == 0 and len(one["bbox"]) == 4 for one in made["annotations"])


def test_labelme_files_become_rows_again(folder: Path) -> None:
    out = folder / "rows"
    labelme = str(folder / "out" / "labelme")
    assert main(["data", "labelme", "--root", labelme, "--out", str(out), "--image_size", "original"]) == 0
    rows = {(row.problem, row.id): row for row in open_rows(out)}
    assert {question for question, _ in rows} == {"all cups", "the file_name on a plate"}
    wanted = [
        ("all cups", "a", np.any(MASKS, axis=0)),
        ("all cups", "b", MASKS[0]),
        ("the file_name on a plate", "a", RING | TWO_PIECES),
    ]
    for question, name, mask in wanted:
        (row,) = (row for (asked, id), row in rows.items() if asked == question and id.startswith(f"{name}:"))
        truth = row.truth()
        assert truth is not None and same(truth == 1, mask) >= 0.99
        count = 1 if name == "b" else 2
        assert len(row.objects()) == count, "the pieces of an object stay together"


def test_a_correction_by_hand_reaches_the_row(folder: Path) -> None:
    path = folder / "out" / "labelme" / "b.json"
    annotation = json.loads(path.read_text())
    annotation["shapes"][0]["points"] = [[10, 10], [99, 10], [99, 59], [10, 59]]
    path.write_text(json.dumps(annotation))
    out = folder / "rows"
    labelme = str(folder / "out" / "labelme")
    assert main(["data", "labelme", "--root", labelme, "--out", str(out), "--image_size", "original"]) == 0
    row = next(row for row in open_rows(out) if row.id.startswith("b:"))
    truth = row.truth()
    assert truth is not None and (truth == 1).sum() == 90 * 50


def test_an_image_without_a_file_is_embedded(tmp_path: Path) -> None:
    result = answer_of(MASKS)
    files = result.save(tmp_path, "webcam", ["labelme", "coco", "label_studio"])
    made = json.loads((Path(files["labelme"]) / "webcam.json").read_text())
    assert made["imageData"] and (made["imageWidth"], made["imageHeight"]) == SIZE
    assert json.loads(Path(files["coco"]).read_text())["images"][0]["file_name"] == "webcam.png"
    assert main(["data", "labelme", "--root", files["labelme"], "--out", str(tmp_path / "rows")]) == 0


def unpacked(packed: Sequence[int]) -> np.ndarray:
    """By the reader of @thi.ng/rle-pack: count, word size, four length sizes, then runs of one or of single values."""
    bits, at = "".join(f"{byte:08b}" for byte in packed), 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        repeated = read(1)
        length = read(sizes[read(2)]) + 1
        values += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    assert len(values) == count and len(bits) - at < 8
    return np.array(values, dtype=np.uint8)


@pytest.mark.parametrize(
    "mask",
    [
        RING,
        np.zeros((3, 5), dtype=bool),
        np.ones((300, 400), dtype=bool),
        np.eye(7, dtype=bool),
        np.random.default_rng(1).random((31, 17)) > 0.5,
        np.array([[True]]),
    ],
    ids=["ring", "empty", "full, over 65,536 bytes", "single pixels", "noise", "one pixel"],
)
def test_a_brush_is_the_mask_in_four_channels(mask: np.ndarray) -> None:
    pixels = unpacked(pack_brush(mask)).reshape(*mask.shape, 4)
    assert (pixels == (mask * np.uint8(255))[..., None]).all()


def test_label_studio_gets_one_task_per_image(folder: Path) -> None:
    tasks: list[dict[str, Any]] = json.loads((folder / "out" / "label_studio.json").read_text())
    assert [task["data"]["image"] for task in tasks] == [
        *("/data/local-files/?d=cups/a.png", "/data/local-files/?d=plates/b.png")
    ]
    ((prediction,), _) = (task["predictions"] for task in tasks)
    assert prediction["score"] == pytest.approx(0.85) and len(prediction["result"]) == 4
    ids = [one["id"] for task in tasks for one in task["predictions"][0]["result"]]
    assert len(set(ids)) == len(ids)
    third = prediction["result"][2]
    assert third["value"]["brushlabels"] == ["the file_name on a plate"] and third["type"] == "brushlabels"
    assert (third["original_width"], third["original_height"]) == SIZE
    assert (unpacked(third["value"]["rle"]).reshape(120, 160, 4)[..., 3] == RING * 255).all()
    config = (folder / "out" / "label_studio.xml").read_text()
    for name in (third["from_name"], third["to_name"], "the file_name on a plate"):
        assert f'"{name}"' in config


def test_a_label_may_hold_any_letter() -> None:
    assert 'value="a &lt; b &amp; c"' in labelling_config(["a < b & c"])


@pytest.mark.parametrize("seed", range(8))
def test_outlines_keep_the_mask_with_few_corners(seed: int) -> None:
    """Blobs as SAM2 makes them: smooth, several pieces, at the edges too."""
    noise = np.random.default_rng(seed).random((12, 16))
    smooth = np.asarray(Image.fromarray((noise * 255).astype(np.uint8)).resize(SIZE, Image.Resampling.BICUBIC))
    mask = smooth > 165
    found = outlines(mask)
    if found is None:
        return
    painted = np.any([paint_polygon(piece, SIZE) for piece in found], axis=0)
    assert same(painted, mask) >= 0.99
    assert sum(len(piece) for piece in found) < 0.6 * int(np.diff(mask, axis=0).sum() + np.diff(mask, axis=1).sum())


def test_what_polygons_cannot_say_has_none() -> None:
    assert outlines(RING) is None
    assert outlines(np.eye(2, dtype=bool)[:, :1] & True) is None, "one pixel has no corners"
    assert outlines(MASKS[0]) is not None


def test_nothing_found_makes_valid_files(tmp_path: Path) -> None:
    files = answer_of([]).save(tmp_path, "none", KINDS)
    assert COCO(files["coco"]).anns == {} and json.loads(Path(files["coco_results"]).read_text()) == []
    (task,) = json.loads(Path(files["label_studio"]).read_text())
    assert task["predictions"][0]["result"] == []
    assert json.loads((tmp_path / "labelme" / "none.json").read_text())["shapes"] == []
