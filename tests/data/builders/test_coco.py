"""LVIS and COCO category questions from small files in the original formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from seg_zero.cli.main import main
from seg_zero.data.builders.instances import read_json
from seg_zero.data.builders.lvis import readable_name


def box_polygon(x1: int, y1: int, x2: int, y2: int) -> list[list[int]]:
    """The polygon that covers the pixels x1..x2, y1..y2."""
    return [[x1, y1, x2 + 1, y1, x2 + 1, y2 + 1, x1, y2 + 1]]


def annotation(number: int, image: int, category: int, *box: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "segmentation": box_polygon(*box), **more}


CROWD = {"size": [40, 60], "counts": [20 * 40, 40 * 10, 30 * 40]}  # the columns 20..29
CATEGORIES = [(1, "bow_(decorative_ribbons)"), (2, "aerosol_can"), (3, "cat"), (4, "dog")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in train2017/ and val2017/, lvis.json and coco.json."""
    images = []
    for number, split in ((5, "train2017"), (6, "val2017")):
        (tmp_path / split).mkdir()
        Image.new("RGB", (60, 40), (80, 90, 100)).save(tmp_path / split / f"{number:012d}.jpg")
        images.append({"id": number, "width": 60, "height": 40})
    annotations = [
        annotation(1, 5, 1, 2, 2, 8, 6),
        annotation(2, 5, 1, 20, 2, 26, 6),
        annotation(3, 5, 3, 40, 20, 50, 30),
        annotation(4, 6, 2, 0, 0, 59, 39),
        annotation(5, 6, 3, 10, 10, 12, 12),
    ]
    lvis = {
        "images": [
            {
                **image,
                "coco_url": f"http://images.cocodataset.org/{split}/{image['id']:012d}.jpg",
                "neg_category_ids": absent,
                "not_exhaustive_category_ids": incomplete,
            }
            for image, split, absent, incomplete in zip(
                images, ("train2017", "val2017"), ([2, 4], [1]), ([], [3]), strict=True
            )
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "synonyms": [name], "def": ""} for i, name in CATEGORIES],
    }
    (tmp_path / "lvis.json").write_text(json.dumps(lvis))
    crowds = [
        {"id": 6, "image_id": 5, "category_id": 3, "iscrowd": 1, "segmentation": CROWD},
        {"id": 7, "image_id": 6, "category_id": 4, "iscrowd": 1, "segmentation": CROWD},
    ]
    coco = {
        "images": [
            {**image, "file_name": f"{split}/{image['id']:012d}.jpg"}
            for image, split in zip(images, ("train2017", "val2017"), strict=True)
        ],
        "annotations": [{**entry, "iscrowd": 0} for entry in annotations] + crowds,
        "categories": [{"id": i, "name": name} for i, name in CATEGORIES],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    return tmp_path


def run(folder: Path, name: str, *arguments: str) -> dict[str, dict[str, Any]]:
    """Rows by id; the exit code must be 0."""
    out = folder / "rows.parquet"
    files = ("--instances", str(folder / f"{name}.json"), "--images", str(folder), "--image_size", "original")
    assert main(["data", name, *files, "--out", str(out), *arguments]) == 0
    rows = pq.read_table(out).to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def boxes(row: dict[str, Any]) -> list[list[int]]:
    return [item["bbox_2d"] for item in json.loads(row["solution"])]


def failure(folder: Path, name: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    files = ("--instances", str(folder / f"{name}.json"), "--images", str(folder))
    assert main(["data", name, *files, "--out", str(folder / "none.parquet"), *arguments]) == 2
    assert not (folder / "none.parquet").exists()
    return next(line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))


def test_names_are_written_as_people_write_them() -> None:
    assert readable_name("aerosol_can") == "aerosol can"
    assert readable_name("bow_(decorative_ribbons)") == "bow (decorative ribbons)"
    assert readable_name("monitor_(computer_equipment) computer_monitor") == "monitor (computer equipment)"


def test_lvis_asks_for_every_fully_annotated_category(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(folder, "lvis")
    assert {key: (row["problem"], row["kind"]) for key, row in rows.items()} == {
        "lvis_5_1": ("bow (decorative ribbons)", "multi"),
        "lvis_5_3": ("cat", "single"),
        "lvis_6_2": ("aerosol can", "single"),  # its picture is in val2017; the cats there are not all annotated
    }
    assert boxes(rows["lvis_5_1"]) == [[2, 2, 8, 6], [20, 2, 26, 6]]
    assert rows["lvis_6_2"]["solution"].startswith("<box>(0,0),(59,39)</box>")
    assert "not annotated completely, not asked: 1" in capsys.readouterr().out


def test_lvis_negatives_are_those_that_were_checked(folder: Path) -> None:
    rows = run(folder, "lvis", "--negatives", "5")
    absent = {key: row for key, row in rows.items() if row["kind"] == "none"}
    assert set(absent) == {"lvis_5_2", "lvis_5_4", "lvis_6_1"}
    assert all(row["solution"] == "[]" for row in absent.values())
    one = run(folder, "lvis", "--negatives", "1")
    assert len(one) == 5 and one == run(folder, "lvis", "--negatives", "1")


def test_lvis_images_in_one_folder(folder: Path) -> None:
    expected = run(folder, "lvis")
    (folder / "flat").mkdir()
    for picture in folder.glob("*2017/*.jpg"):
        picture.rename(folder / "flat" / picture.name)
    assert run(folder, "lvis", "--images", str(folder / "flat")) == expected


def test_coco_crowds_are_ignored_pixels_and_no_targets(folder: Path) -> None:
    rows = run(folder, "coco", "--negatives", "9")
    assert {key for key, row in rows.items() if row["kind"] == "none"} == {"coco_5_2", "coco_5_4", "coco_6_1"}
    assert {key for key, row in rows.items() if row["kind"] != "none"} == {
        "coco_5_1",
        "coco_5_3",
        "coco_6_2",
        "coco_6_3",
    }
    assert rows["coco_5_3"]["solution"].startswith("<box>(40,20),(50,30)</box>")
    assert rows["coco_5_3"]["ignore"]["size"] == [40, 60] and rows["coco_5_1"]["ignore"] is None


def test_crowded_questions_are_left_out_not_cut(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(run(folder, "coco", "--max_objects", "1")) == {"coco_5_3", "coco_6_2", "coco_6_3"}
    assert "more than 1 targets, not asked: 1" in capsys.readouterr().out


def test_orphans_are_named_or_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((folder / "coco.json").read_text())
    content["annotations"] += [annotation(90, 77, 1, 0, 0, 9, 9), annotation(91, 5, 99, 0, 0, 9, 9)]
    (folder / "coco.json").write_text(json.dumps(content))
    assert "annotation 91 is of category id 99" in failure(folder, "coco", capsys)
    assert len(run(folder, "coco", "--skip-bad")) == 4
    printed = capsys.readouterr().out
    assert "annotation 90 is of image id 77" in printed and "2 unusable" in printed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"annotations": []}, "gives no question"),
        ({"categories": None}, "no list 'categories'"),
        (
            {"annotations": [{"id": 1, "image_id": 5, "caption": "a cat"}]},
            "category_id is 'missing', seg",
        ),
        ({"images": [{"id": 5, "width": "60", "height": 40}]}, "width is '60'"),
        ({"images": [{"id": 5, "width": 60, "height": -1}]}, "60x-1 pixels"),
        ({"images": [{"id": 5, "width": 10**6, "height": 10**6}]}, "1000000x1000000 pixels"),
        ({"annotations": ["cat"]}, "not an object"),
        ({"images": [{"id": 5, "width": 60, "height": 40}]}, "image 5"),
    ],
)
@pytest.mark.parametrize("name", ["lvis", "coco"])
def test_other_files_are_recognised(
    folder: Path, name: str, change: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((folder / f"{name}.json").read_text())
    (folder / f"{name}.json").write_text(json.dumps({**content, **change}))
    assert words in failure(folder, name, capsys)


def test_other_arguments_that_cannot_be_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--max_objects 0" in failure(folder, "coco", capsys, "--max_objects", "0")
    assert "--negatives -1" in failure(folder, "coco", capsys, "--negatives", "-1")
    assert "is not a folder" in failure(folder, "coco", capsys, "--images", str(folder / "nowhere"))
    for content, words in (("[]", "JSON list"), ('{"images": [', "not whole JSON"), (b"\xff\xfe\x00", "not JSON")):
        data = content if isinstance(content, bytes) else content.encode()
        (folder / "coco.json").write_bytes(data)
        assert words in failure(folder, "coco", capsys)


def test_a_byte_order_mark_in_annotations_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": []}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json", "annotation file") == {"images": []}


def test_file_names_may_have_backslashes(folder: Path) -> None:
    expected = set(run(folder, "coco"))
    content = json.loads((folder / "coco.json").read_text())
    for image in content["images"]:
        image["file_name"] = image["file_name"].replace("/", "\\")
    (folder / "coco.json").write_text(json.dumps(content))
    assert set(run(folder, "coco")) == expected
