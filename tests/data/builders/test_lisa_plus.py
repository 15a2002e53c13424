"""LISA++ questions from small files in the published format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from seg_zero.cli.main import main


def annotation(number: int, image: int, x1: int, y1: int, x2: int, y2: int) -> dict[str, Any]:
    """Covers the pixels x1..x2, y1..y2."""
    polygon = [x1, y1, x2 + 1, y1, x2 + 1, y2 + 1, x1, y2 + 1]
    return {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "segmentation": [polygon]}


def entry(question: Any, picture: str, *ids: Any) -> dict[str, Any]:
    """As published: ids are text, and the polygons are there once more, under the ids."""
    copies = {str(number): {"label name": "cup", "points": [[0, 0, 1, 0, 1, 1]]} for number in ids}
    return {"English Question": question, "img_path": picture, "ID": list(ids), "points": copies}


GOOD = [
    entry("Which of these hold a drink?", "000000000005.jpg", "11", "12", "11"),
    entry("What would a cat sit on?", "000000000006.jpg", "21"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures of COCO, their instances, and two questions."""
    (tmp_path / "train2017").mkdir()
    images = []
    for number in (5, 6):
        Image.new("RGB", (60, 40), (80, 90, 100)).save(tmp_path / "train2017" / f"{number:012d}.jpg")
        images.append({"id": number, "width": 60, "height": 40, "file_name": f"{number:012d}.jpg"})
    annotations = [
        annotation(11, 5, 2, 2, 8, 6),
        annotation(12, 5, 20, 2, 26, 6),
        annotation(13, 5, 30, 2, 30, 2),
        annotation(21, 6, 40, 20, 50, 30),
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cup"}]}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    (tmp_path / "data.json").write_text(json.dumps(GOOD))
    return tmp_path


def run(folder: Path, *arguments: str) -> int:
    files = ("--questions", folder / "data.json", "--instances", folder / "instances.json")
    where = ("--images", folder / "train2017", "--out", folder / "rows.parquet", "--image_size", "original")
    return main(["data", "lisa_plus", *map(str, (*files, *where)), *arguments])


def test_every_entry_becomes_a_row_with_the_objects_of_its_ids(folder: Path) -> None:
    assert run(folder) == 0
    several, one = pq.read_table(folder / "rows.parquet").to_pylist()
    assert (several["id"], several["problem"], several["kind"]) == (
        "lisa_plus_0",
        "Which of these hold a drink?",
        "multi",
    )
    assert [item["bbox_2d"] for item in json.loads(several["solution"])] == [[2, 2, 8, 6], [20, 2, 26, 6]]
    assert one["solution"].startswith("<box>(40,20),(50,30)</box>") and one["kind"] == "single"


def test_objects_without_an_area_are_dropped_and_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "data.json").write_text(json.dumps([entry("Which two?", "000000000005.jpg", "11", "13")]))
    assert run(folder) == 0
    assert "1 object without an area" in capsys.readouterr().out
    assert run(folder, "--strict") == 2


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (entry("Which?", "000000000005.jpg"), "'ID' must list annotation ids, but is []"),
        (entry("Which?", "000000000005.jpg", "eleven"), "'ID' must list annotation ids"),
        (entry("Which?", "000000000005.jpg", 11.5), "'ID' must list annotation ids"),
        ({"English Question": "Which?", "img_path": "000000000005.jpg", "ID": "11"}, "'ID' must list annotation ids"),
        (entry("Which?", "000000000005.jpg", "99"), "annotation id 99 is not in"),
        (entry("Which?", "000000000005.jpg", "11", "21"), "not all of one image"),
        (entry("Which?", "000000000006.jpg", "11"), "its picture is 000000000006.jpg"),
        (entry("  ", "000000000005.jpg", "11"), "empty question"),
        (entry(None, "000000000005.jpg", "11"), "no 'English Question'"),
        ({"img_path": "000000000005.jpg", "ID": ["11"]}, "no 'English Question'"),
    ],
)
def test_unusable_entries_are_named(
    folder: Path, bad: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "data.json").write_text(json.dumps([*GOOD, bad]))
    assert run(folder) == 2
    printed = capsys.readouterr().err
    assert "lisa_plus_2" in printed and words in printed
    assert run(folder, "--skip-bad") == 0
    assert pq.read_table(folder / "rows.parquet").num_rows == 2


@pytest.mark.parametrize("content", [{}, [], ["Which?"], [{"question": "Which?"}]])
def test_other_files_are_recognised(folder: Path, content: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "data.json").write_text(json.dumps(content))
    assert run(folder) == 2
    assert "LISA_Plus_Instance_Seg" in capsys.readouterr().err
