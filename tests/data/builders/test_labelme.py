"""LabelMe files: every shape by hand-counted pixels, questions from labels and from a table."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.full_disk import little_room
from PIL import Image

from seg_zero.cli.data import main
from seg_zero.data.builders.build import example_to_row
from seg_zero.data.builders.labelme import list_records, load, picture_of, read_annotation, shape_mask
from seg_zero.data.source import open_rows
from seg_zero.errors import InputError, run_command

SIZE = (30, 20)


def png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def shape(label: str, points: list[Any], kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def square(label: str, x: int, y: int, side: int, **more: Any) -> dict[str, Any]:
    return shape(label, [[x, y], [x + side - 1, y + side - 1]], "rectangle", **more)


def write(folder: Path, name: str, shapes: list[Any], image: bool = True, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if image:
        Image.new("RGB", SIZE, "white").save(folder / f"{name}.png")
    content = {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"{name}.png",
        "imageData": None,
        "imageHeight": 20,
        "imageWidth": 30,
        **more,
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def extremes(mask: np.ndarray) -> tuple[int, ...]:
    ys, xs = np.nonzero(mask)
    return int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())


@pytest.mark.parametrize(
    ("item", "box", "pixels"),
    [
        (shape("a", [[2, 3], [6, 3], [6, 7], [2, 7]]), (2, 3, 6, 7), 25),
        (shape("a", [[0, 0], [4, 0], [0, 4]]), (0, 0, 4, 4), 15),
        (shape("a", [[2, 3], [6, 7]], "rectangle"), (2, 3, 6, 7), 25),
        (shape("a", [[6, 7], [2, 3]], "rectangle"), (2, 3, 6, 7), 25),
        (shape("a", [[2, 3], [6, 3], [6, 7], [2, 7]], "rectangle"), (2, 3, 6, 7), 25),  # all corners
        (shape("a", [[25, 15], [60, 90]], "rectangle"), (25, 15, 29, 19), 25),
        (shape("a", [[10, 10], [13, 14]], "circle"), (5, 5, 15, 15), None),
        (shape("a", [[4, 5], [6, 6]], "mask", mask=png(Image.new("1", (3, 2), 1))), (4, 5, 6, 6), 6),
        ({"label": "a", "points": [[2, 3], [6, 3], [6, 7], [2, 7]]}, (2, 3, 6, 7), 25),
    ],
)
def test_shapes_by_hand(item: dict[str, Any], box: tuple[int, ...], pixels: int | None) -> None:
    mask = shape_mask(item, SIZE)
    assert mask.dtype == bool and mask.shape == (20, 30)
    assert extremes(mask) == box and pixels in (None, mask.sum())


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (shape("a", [[1, 2]], "point"), "a point has no area; draw a polygon"),
        (shape("a", [[1, 2], [3, 4]], "line"), "a line has no area"),
        (shape("a", [[1, 2], [3, 4]], "linestrip"), "no area"),
        (shape("a", [[1, 2], [3, 4]], "star"), "'star' is none of polygon"),
        (shape("a", [[1, 2], [3, 4]]), "needs 3 points, it has 2"),
        (shape("a", [[1, 2]], "rectangle"), "needs 2 points, it has 1"),
        (shape("a", []), "no points"),
        (shape("a", [[1], [2, 3], [4, 5]]), r"\[1\] is not a pair"),
        (shape("a", [["1", 2], [2, 3], [4, 5]]), "not a pair of numbers"),
        (shape("a", [[float("nan"), 2], [2, 3], [4, 5]]), "not a pair of numbers"),
        (shape("a", [[1, 2], [3, 4]], "mask", mask="!"), "not an encoded picture"),
        (shape("a", [[1, 2], [3, 4]], "mask"), "not an encoded picture"),
        (shape("a", [[100, 100], [110, 110]], "rectangle"), "outside the picture"),
    ],
)
def test_unusable_shapes_are_named(tmp_path: Path, item: dict[str, Any], message: str) -> None:
    write(tmp_path, "x", [item])
    (record,) = list_records(tmp_path)
    with pytest.raises(InputError, match=rf"x\.json: shape 'a'.*{message}"):
        load(record)


def test_labels_are_questions_and_groups_are_objects(tmp_path: Path) -> None:
    shapes = [
        square("coffee_cup", 1, 1, 4, group_id=7),
        square("plate", 20, 10, 5),
        square("coffee_cup", 10, 1, 3),
        square("coffee_cup", 1, 10, 2, group_id=7),
        square("__ignore__", 18, 8, 4),
    ]
    write(tmp_path / "sub", "x", shapes)
    cups, plate = (example_to_row(load(record), None) for record in list_records(tmp_path))
    assert (cups.id, cups.problem) == ("sub/x:coffee_cup", "coffee cup")
    assert [item.box for item in cups.objects()] == [(1, 1, 4, 11), (10, 1, 12, 3)]
    assert [item.box for item in plate.objects()] == [(20, 10, 24, 14)]
    truth = plate.truth()
    # The target wins where an ignored shape touches it: 4 x 4 less the 2 x 2 they share.
    assert truth is not None and (truth == 1).sum() == 25 and (truth == 255).sum() == 16 - 4


def test_the_picture_is_embedded_or_beside_the_file(tmp_path: Path) -> None:
    red = png(Image.new("RGB", SIZE, "red"))
    write(tmp_path / "a", "x", [square("cup", 1, 1, 4)], image=False, imageData=red)
    assert example_to_row(load(list_records(tmp_path / "a")[0]), None).image().getpixel((0, 0)) == (255, 0, 0)
    write(tmp_path / "b", "x", [square("cup", 1, 1, 4)], imagePath="C:\\photos\\x.png")
    assert load(list_records(tmp_path / "b")[0]).image == tmp_path / "b" / "x.png"
    write(tmp_path / "c", "x", [square("cup", 1, 1, 4)], imagePath="..\\b\\x.png", image=False)
    assert Path(str(load(list_records(tmp_path / "c")[0]).image)).samefile(tmp_path / "b" / "x.png")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"imagePath": "gone.png"}, "picture gone.png does not exist; put it beside"),
        ({"imagePath": None}, "neither imageData nor imagePath"),
        ({"imageData": "%%%"}, "not base64"),
        ({"imageData": base64.b64encode(b"text").decode()}, "cannot be read"),
        ({"imageHeight": 40, "imageWidth": 60}, "drawn on 60x40 pixels, its picture has 30x20"),
    ],
)
def test_missing_and_wrong_pictures_are_named(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    write(tmp_path, "x", [square("cup", 1, 1, 4)], **more)
    with pytest.raises(InputError, match=rf"x\.json.*{message}"):
        load(list_records(tmp_path)[0])


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"shapes": [{"points": []}]}', "[" * 100_000, "\x81"])
def test_files_that_are_no_annotation_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_bytes(content.encode("latin-1"))
    (record,) = list_records(tmp_path)
    with pytest.raises(InputError, match=r"x\.json"):
        load(record)


def test_windows_text_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "x", [])
    content = {"shapes": [square("tasse à café", 1, 1, 4)], "imagePath": "x.png"}
    path.write_bytes(json.dumps(content, ensure_ascii=False).encode("cp1252"))
    assert list_records(tmp_path, encoding="cp1252")[0].question == "tasse à café"
    assert "name the encoding, e.g. --encoding gb18030 or cp1252" in list_records(tmp_path)[0].problem
    path.write_bytes(json.dumps(content, ensure_ascii=False).replace("à café", "“a” …").encode("cp1252"))
    assert list_records(tmp_path)[0].question == "tasse “a” …"


@pytest.mark.parametrize(
    ("split", "said", "rows"), [("train", "2 of 3 pictures; 1 held out", 4), ("val", "1 of 3 pictures; 2 left", 2)]
)
def test_the_command_says_what_a_split_takes(
    tmp_path: Path, split: str, said: str, rows: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path, name, [square("cup", 1, 1, 4), square("plate", 3, 3, 5)])
    given = ["labelme", "--root", str(tmp_path), "--split", split, "--out", str(tmp_path / "rows.parquet")]
    assert run_command(main, given) == 0
    printed = capsys.readouterr().out
    assert f"--split {split}: {said}" in printed and f"{rows} rows written" in printed


def test_files_whose_names_are_not_utf8_become_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The name is escaped in ids, and in what is said about a file that cannot be used."""
    name, folder, out = (
        os.fsdecode(b"caf\xe9"),
        tmp_path / os.fsdecode(b"f\xe9"),
        tmp_path / os.fsdecode(b"r\xe9.parquet"),
    )
    write(folder, name, [square("cup", 1, 1, 4)])
    (folder / os.fsdecode(b"bad\xe9.json")).write_text("{")
    given = ["labelme", "--root", str(folder), "--out", str(out), "--skip-bad"]
    assert run_command(main, [*given, "--image_size", "original"]) == 0
    (row,) = open_rows(out)
    assert row.id == r"caf\xe9:cup" and row.problem == "cup"
    said = capsys.readouterr().out
    assert "1 row written" in said and r"bad\udce9.json is not JSON" in said


def test_a_full_disk_is_one_line_and_leaves_the_rows_that_were_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.parquet"
    write(tmp_path / "all", "x", [square("cup", 1, 1, 4)])
    given = ["labelme", "--root", str(tmp_path / "all"), "--out", str(out), "--image_size", "original"]
    assert run_command(main, given) == 0
    write(tmp_path / "all", "y", [square("plate", 1, 1, 4)])
    capsys.readouterr()
    with little_room(500):
        assert run_command(main, given) == 2
    assert f"error: {out} cannot be written (File too large); free space there" in capsys.readouterr().err
    assert [row.problem for row in open_rows(out)] == ["cup"] and len(os.listdir(tmp_path)) == 2


TABLE = """image,label,question,kind
x.png,cup,what can hold coffee,use
a/y,cup;plate,the dishes,set
x,,the elephant,none
,plate,what food lies on,use
"""


def test_questions_from_a_table(tmp_path: Path) -> None:
    write(tmp_path, "x", [square("cup", 1, 1, 4)])
    write(tmp_path / "a", "y", [square("cup", 2, 2, 4), square("plate", 10, 2, 5)])
    (tmp_path / "q.csv").write_text(TABLE)
    examples = [load(record) for record in list_records(tmp_path, tmp_path / "q.csv")]
    assert [(e.id, e.question, e.kind, len(e.masks)) for e in examples] == [
        ("x:2", "what can hold coffee", "use", 1),
        ("a/y:3", "the dishes", "set", 2),
        ("x:4", "the elephant", "none", 0),
        ("a/y:5", "what food lies on", "use", 1),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x,bowl,q", "line 2: .*x.json has no shape labelled 'bowl', only cup; leave label empty"),
        ("z,cup,q", "line 2: picture 'z' has no LabelMe file"),
        ("y,cup,q", "line 2: picture 'y' fits 2 LabelMe files"),
        (",bowl,q", "line 2: no LabelMe file below .* has the label 'bowl'"),
        (",,q", "line 2: no LabelMe file"),
        ("x,cup,", "line 2 has an empty question"),
        ("x,cup,q,more", "line 2 has 4 cells"),
    ],
)
def test_bad_lines_of_a_table_are_named(tmp_path: Path, line: str, message: str) -> None:
    for folder, name in (("", "x"), ("a", "y"), ("b", "y")):
        write(tmp_path / folder, name, [square("cup", 1, 1, 4)])
    (tmp_path / "q.csv").write_text(f"image,label,question\n{line}\n")
    with pytest.raises(InputError, match=message):
        load(list_records(tmp_path, tmp_path / "q.csv")[0])


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \.json file with shapes"):
        list_records(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        list_records(tmp_path / "nope")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "xyz":
        write(tmp_path / "in", name, [square("cup", 1, 1, 4), square("plate", 10, 2, 5)])
    (tmp_path / "in" / "settings.json").write_text('{"theme": "dark"}')
    for split in ("train", "val"):
        argv = [
            "labelme",
            "--root",
            str(tmp_path / "in"),
            "--out",
            str(tmp_path / f"{split}.parquet"),
            "--workers",
            "1",
        ]
        assert main([*argv, "--split", split, "--image_size", "original", "--skip-bad"]) == 0
    ids = [{row.id for row in open_rows(tmp_path / f"{split}.parquet")} for split in ("train", "val")]
    assert not ids[0] & ids[1] and sorted(map(len, ids)) == [2, 4]
    assert "settings.json" in capsys.readouterr().out


def test_labels_may_be_whole_numbers_and_embedded_pictures_have_line_breaks(tmp_path: Path) -> None:
    data = "\n".join(png(Image.new("RGB", SIZE))[i : i + 20] for i in range(0, 60, 20)) + "\n"
    data += png(Image.new("RGB", SIZE))[60:]
    path = write(tmp_path, "a", [{**square("", 2, 3, 5), "label": 7}], image=False, imageData=data)
    assert read_annotation(path)["shapes"][0]["label"] == "7"
    assert picture_of(path, read_annotation(path)) == base64.b64decode(png(Image.new("RGB", SIZE)))
