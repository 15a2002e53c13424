"""ReasonSeg's folders: painting order, ignored pixels, objects, and files that are not right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg_zero.cli.data import main
from seg_zero.data.builders.build import example_to_row
from seg_zero.data.builders.reasonseg import list_records, load
from seg_zero.data.rows import Row
from seg_zero.data.source import open_rows
from seg_zero.errors import InputError


def square(label: str, x: float, y: float, side: int) -> dict[str, Any]:
    far = side - 1
    points = [[x, y], [x + far, y], [x + far, y + far], [x, y + far]]
    return {"label": label, "labels": [label], "points": points, "shape_type": "polygon", "image_name": "1.jpg"}


def write(root: Path, shapes: list[Any], name: str = "1", encoding: str = "utf-8", **more: Any) -> None:
    folder = root / "val"
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (40, 30), "white").save(folder / f"{name}.jpg")
    content = {"text": ["what holds water?", "the cup"], "is_sentence": True, "shapes": shapes, **more}
    (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)


def row_of(root: Path, objects: str = "shapes") -> Row:
    return example_to_row(load(list_records(root, "val")[0], objects), None)


def counts(row: Row) -> tuple[int, int]:
    """Pixels of the target and ignored ones."""
    truth = row.truth()
    assert truth is not None and truth.shape == (30, 40)
    return int((truth == 1).sum()), int((truth == 255).sum())


@pytest.mark.parametrize(
    ("shapes", "pixels", "boxes"),
    [
        ([square("target", 2, 3, 10)], (100, 0), [(2, 3, 11, 12)]),
        # Corners are cut to whole pixels.
        ([square("target", 2.9, 3.9, 10)], (100, 0), [(2, 3, 11, 12)]),
        # A smaller shape replaces what lies under it, whatever the order of the file.
        ([square("ignore", 4, 5, 4), square("target", 2, 3, 10)], (84, 16), [(2, 3, 11, 12)]),
        ([square("target", 4, 5, 4), square("ignore", 2, 3, 10)], (16, 84), [(4, 5, 7, 8)]),
        (
            [square("target", 2, 3, 10), square("ignore", 2, 3, 9), square("target", 2, 3, 4)],
            (35, 65),
            [(2, 3, 11, 12)],
        ),
        # Of shapes of one area the earlier one is painted last.
        ([square("target", 2, 3, 5), square("ignore", 2, 3, 5)], (25, 0), [(2, 3, 6, 7)]),
        ([square("ignore", 2, 3, 5), square("target", 2, 3, 5)], (0, 25), []),
        # A flag is skipped; any label with "ignore" in it is ignored, every other one is the target.
        ([square("Flag", 4, 5, 4), square("target", 2, 3, 10)], (100, 0), [(2, 3, 11, 12)]),
        ([square("Ignore 2", 20, 3, 5), square("cup", 2, 3, 10)], (100, 25), [(2, 3, 11, 12)]),
        # One object per polygon; one inside another belongs to it, overlapping ones stay apart.
        (
            [square("target", 30, 3, 4), square("target", 2, 3, 10), square("target", 4, 4, 3)],
            (116, 0),
            [(2, 3, 11, 12), (30, 3, 33, 6)],
        ),
        ([square("target", 2, 3, 10), square("target", 8, 3, 9)], (145, 0), [(2, 3, 11, 12), (8, 3, 16, 11)]),
        # Cut at the border; nothing to find.
        ([square("target", 36, 26, 10)], (16, 0), [(36, 26, 39, 29)]),
        ([], (0, 0), []),
        ([square("flag", 2, 3, 10)], (0, 0), []),
        ([square("target", 2, 3, 4), square("ignore", 2, 3, 4) | {"points": [[2, 3]]}], (15, 1), [(2, 3, 5, 6)]),
    ],
)
def test_painting_by_hand(tmp_path: Path, shapes: list[Any], pixels: tuple[int, int], boxes: list[Any]) -> None:
    write(tmp_path, shapes)
    row = row_of(tmp_path)
    assert counts(row) == pixels
    assert [item.box for item in row.objects()] == boxes
    union = row_of(tmp_path, "union")
    assert counts(union) == pixels and len(union.objects()) == min(1, len(boxes))


def test_union_is_one_box_around_everything(tmp_path: Path) -> None:
    write(tmp_path, [square("target", 30, 3, 4), square("target", 2, 3, 10)])
    (item,) = row_of(tmp_path, "union").objects()
    assert item.box == (2, 3, 33, 12) and len(item.points) == 2
    truth = row_of(tmp_path).truth()
    assert truth is not None and all(truth[int(y), int(x)] == 1 for x, y in item.points)


def test_an_annotation_that_is_not_utf8_needs_its_encoding(tmp_path: Path) -> None:
    """Bytes of GB18030 are letters in every Windows code page, too."""
    write(tmp_path, [square("target", 2, 3, 10)], text=["红色的杯子"], encoding="gb18030")
    (record,) = list_records(tmp_path, "val")
    for encoding, message in {
        "utf-8": "is not UTF-8 text; name the encoding, e.g. --encoding gb18030 or cp1252",
        "ascii": "is neither UTF-8 nor ascii text",
        "martian": "--encoding 'martian' is unknown; try",
    }.items():
        with pytest.raises(InputError, match=message) as error:
            load(record, encoding=encoding)
        assert str(record.annotation) in str(error.value)
    assert load(record, encoding="gb18030").question == "红色的杯子"


@pytest.mark.parametrize(
    ("more", "question", "kind"),
    [
        ({}, "what holds water?", "sentence"),
        ({"text": "the mug", "is_sentence": False}, "the mug", "phrase"),
        ({"text": ["the “cup” …"], "encoding": "cp1252"}, "the “cup” …", "sentence"),
        ({"text": ["the cup"], "encoding": "utf-16"}, "the cup", "sentence"),
        ({"text": ["la tasse à café"], "encoding": "utf-8-sig"}, "la tasse à café", "sentence"),
    ],
)
def test_the_first_wording_is_the_question(tmp_path: Path, more: dict[str, Any], question: str, kind: str) -> None:
    write(tmp_path, [square("target", 2, 3, 10)], **more)
    row = row_of(tmp_path)
    assert (row.id, row.problem, row.kind) == ("val/1", question, kind)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"text": [], "shapes": []}, "has no 'text'"),
        ({"text": [" "], "shapes": []}, "has no 'text'"),
        ({"text": {"en": "x"}, "shapes": []}, "has no 'text'"),
        ({"text": "x"}, "'shapes'"),
        ({"text": "x", "shapes": [{"points": [[1, 2]]}]}, "'shapes'"),
        ({"text": "x", "shapes": [{"label": "target"}]}, "shape 'target' cannot be painted: it has no points"),
        ({"text": "x", "shapes": [{"label": "target", "points": [[1, "2"]]}]}, "not a pair of numbers"),
        ({"text": "x", "shapes": [{"label": "target", "points": [[1, 1e12]]}]}, "not a pair of numbers"),
        (
            {"text": "x", "shapes": [{"label": "target", "points": [[900, 900], [950, 900], [950, 950]]}]},
            "shape 'target' lies outside the picture of",
        ),
        ("nonsense", "is not JSON"),
    ],
)
def test_bad_annotations_are_named(tmp_path: Path, content: Any, message: str) -> None:
    write(tmp_path, [])
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "val" / "1.json").write_text(text)
    with pytest.raises(InputError, match=rf"1\.json.*{message}"):
        row_of(tmp_path)


def test_names_without_a_partner_are_told(tmp_path: Path) -> None:
    write(tmp_path, [square("target", 2, 3, 10)], "1")
    write(tmp_path, [square("target", 2, 3, 10)], "2")
    (tmp_path / "val" / "1.json").unlink()
    (tmp_path / "val" / "2.jpg").unlink()
    lonely_picture, lonely_annotation = list_records(tmp_path, "val")
    with pytest.raises(InputError, match=r"1\.jpg has no \.json"):
        load(lonely_picture)
    with pytest.raises(InputError, match=r"2\.json has no picture"):
        load(lonely_annotation)


def test_wrong_folders_are_told(tmp_path: Path) -> None:
    write(tmp_path, [])
    with pytest.raises(InputError, match=r"test does not exist; .* holds val"):
        list_records(tmp_path, "test")
    with pytest.raises(InputError, match="holds no folders"):
        list_records(tmp_path / "nope", "test")
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match=r"no \.json files"):
        list_records(tmp_path, "train")


def test_the_command_keeps_pictures_for_evaluation_and_stretches_them_for_training(tmp_path: Path) -> None:
    write(tmp_path, [square("target", 2, 3, 10), square("ignore", 20, 3, 5)])
    argv = ["reasonseg", "--root", str(tmp_path), "--split", "val", "--workers", "1", "--out"]
    assert main([*argv, str(tmp_path / "e.parquet"), "--image_size", "original"]) == 0
    assert main([*argv, str(tmp_path / "t.parquet"), "--image_size", "56", "--objects", "union"]) == 0
    kept, stretched = (next(iter(open_rows(tmp_path / name))) for name in ("e.parquet", "t.parquet"))
    assert kept.image_bytes == (tmp_path / "val" / "1.jpg").read_bytes()
    assert counts(kept) == (100, 25)
    assert stretched.image().size == (56, 56) and (stretched.img_width, stretched.img_height) == (40, 30)
    # 40 x 30 becomes 56 x 56: x * 1.4, y * 1.8667, rounded.
    assert [item.box for item in stretched.objects()] == [(3, 6, 15, 22)]
    truth = stretched.truth()
    assert truth is not None and truth.shape == (56, 56) and set(np.unique(truth)) == {0, 1, 255}
