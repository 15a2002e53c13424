"""Pictures, mask files and question tables: hand-made ones in, exact rows or one clear line out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_zero.cli.data import main
from seg_zero.data.builders import folder
from seg_zero.data.builders.build import build, example_to_row
from seg_zero.data.builders.folder import list_records, load, read_labels
from seg_zero.data.inputs import read_table, split_notes, take_split, upright_size
from seg_zero.data.source import open_rows
from seg_zero.errors import InputError

HEADER = "image,mask,question\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A 20 x 10 picture with two squares, 4 x 4 at (2, 3) and 5 x 5 at (12, 4), and masks of every sort."""
    Image.new("RGB", (20, 10), "white").save(tmp_path / "a.png")
    Image.new("RGB", (20, 10), "grey").save(tmp_path / "b.jpg")
    labels = np.zeros((10, 20), dtype=np.uint8)
    labels[3:7, 2:6] = 1
    labels[4:9, 12:17] = 2
    first, both = labels == 1, labels > 0
    bordered = np.where(first, 1, 0).astype(np.uint8)
    bordered[0] = 255
    masks = {
        "first": first * np.uint8(255),
        "second": (labels == 2) * np.uint8(1),
        "both": labels,
        "deep": labels.astype(np.uint16) * 1000,
        "empty": np.zeros_like(labels),
        "bordered": bordered,
        "soft": np.where(both, 200, 90).astype(np.uint8),
        "small": np.ones((5, 10), dtype=np.uint8),
        "tall": np.ones((20, 10), dtype=np.uint8),
        "colours": np.stack([labels == 1, labels == 2, labels == 9], axis=-1) * np.uint8(255),
        "clear": np.stack([labels, labels, labels, labels], axis=-1),
    }
    for name, values in masks.items():
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    Image.fromarray(masks["first"]).save(tmp_path / "lossy.jpg")
    Image.fromarray(masks["first"]).convert("RGB").save(tmp_path / "lossy.heic")
    palette = Image.fromarray(labels).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    palette.save(tmp_path / "palette.png")
    palette.putpalette([255, 255, 255, 0, 0, 0])
    palette.save(tmp_path / "white_palette.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nonsense")
    return tmp_path


def one(root: Path, mask: str, rule: str = "binary", ignore: int | None = None, image: str = "a.png"):  # type: ignore[no-untyped-def]
    (root / "q.csv").write_text(f"{HEADER}{image},{mask},the square\n")
    (record,) = list_records(root / "q.csv", root)
    return load(record, rule, ignore)


FIRST, SECOND = (2, 3, 5, 6), (12, 4, 16, 8)


@pytest.mark.parametrize(
    ("mask", "rule", "boxes"),
    [
        ("first.png", "binary", [FIRST]),
        ("second.png", "binary", [SECOND]),
        ("both.png", "objects", [FIRST, SECOND]),
        ("deep.png", "objects", [FIRST, SECOND]),
        ("palette.png", "objects", [FIRST, SECOND]),
        ("colours.png", "objects", [SECOND, FIRST]),  # in order of value: green is below red
        ("both.png", "nonzero", [(2, 3, 16, 8)]),
        ("soft.png", "threshold", [(2, 3, 16, 8)]),
        ("lossy.jpg", "threshold", [FIRST]),
        ("first.png;second.png", "binary", [FIRST, SECOND]),
        ("empty.png", "binary", []),
        ("empty.png", "objects", []),
        ("", "binary", []),
    ],
)
def test_masks_become_objects(root: Path, mask: str, rule: str, boxes: list[tuple[int, ...]]) -> None:
    example = one(root, mask, rule)
    row = example_to_row(example, None)
    assert [item.box for item in row.objects()] == boxes
    truth = row.truth()
    assert truth is not None and truth.any() == bool(boxes) and truth.shape == (10, 20)


def test_points_lie_in_the_middle_and_far_from_it(root: Path) -> None:
    (item,) = example_to_row(one(root, "second.png"), None).objects()
    assert item.points[0] == (14, 6)
    assert all(12 <= x <= 16 and 4 <= y <= 8 for x, y in item.points)


def test_ignored_pixels_are_kept_apart(root: Path) -> None:
    row = example_to_row(one(root, "bordered.png", ignore=255), None)
    truth = row.truth()
    assert truth is not None and [item.box for item in row.objects()] == [FIRST]
    assert (truth[0] == 255).all() and (truth == 1).sum() == 16 and (truth == 0).sum() == 200 - 16 - 20


@pytest.mark.parametrize(
    ("mask", "rule", "message"),
    [
        ("both.png", "binary", r"2 values besides 0 \(1, 2\); use --mask_values objects"),
        ("bordered.png", "binary", "--ignore_value"),
        ("soft.png", "binary", "threshold"),
        ("lossy.jpg", "binary", "JPEG.*save it as PNG or use --mask_values threshold"),
        ("lossy.jpg", "objects", "JPEG"),
        ("lossy.heic", "binary", "HEIC, whose edges are fuzzy"),
        ("deep.png", "threshold", "16-bit"),
        ("small.png", "binary", "is 10x5, its picture .*a.png 20x10; export it at that size"),
        ("clear.png", "binary", "transparent"),
        ("white_palette.png", "objects", "entry 0 is not black"),
        ("broken.png", "binary", "cannot be read"),
        ("nope.png", "binary", "nope.png does not exist; check the path"),
        ("first.png;empty.png", "binary", "empty, though it is one of several"),
    ],
)
def test_bad_masks_are_refused_with_file_line_and_remedy(root: Path, mask: str, rule: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"q\.csv line 2: .*{message}"):
        one(root, mask, rule)


def test_a_mask_drawn_on_the_unrotated_photo_is_explained(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(root / "phone.jpg", exif=exif)
    assert upright_size(root / "phone.jpg") == (10, 20)
    assert len(one(root, "tall.png", image="phone.jpg").masks) == 1
    with pytest.raises(InputError, match="EXIF rotation"):
        one(root, "first.png", image="phone.jpg")


def questions(root: Path, name: str, data: bytes) -> list[folder.Record]:
    (root / name).write_bytes(data)
    return list_records(root / name, root)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("q.csv", "image,mask,question,kind\na.png,first.png,café cup,x\n".encode()),
        ("q.csv", "\ufeffImage, Mask ,Question,Kind\r\na.png, first.png ,café cup,x\r\n\r\n".encode()),
        ("q.csv", "image;mask;question;kind\na.png;first.png;café cup;x\n".encode()),
        ("q.tsv", "kind\tquestion\tmask\timage\nx\tcafé cup\tfirst.png\ta.png\n".encode()),
        ("q.csv", "image\tmask\tquestion\tkind\na.png\tfirst.png\tcafé cup\tx\n".encode("utf-16")),
        ("q.csv", 'image,mask,question,kind\n"a.png","first.png","café cup",x'.encode()),
        ("q.jsonl", b'\n{"image":"a.png","mask":"first.png","question":"caf\\u00e9 cup","kind":"x","note":1}\n'),
        ("q.jsonl", '{"image":"a.png","mask":["first.png"],"question":"café cup","kind":"x"}'.encode()),
    ],
)
def test_tables_of_every_kind_say_the_same(root: Path, name: str, data: bytes) -> None:
    (record,) = questions(root, name, data)
    assert (record.image, record.masks) == (root / "a.png", (root / "first.png",))
    assert (record.question, record.kind, record.problem) == ("café cup", "x", "")


def test_lines_are_counted_through_cells_of_several_lines(root: Path) -> None:
    records = questions(root, "q.csv", b'image,mask,question\na.png,,"one\ntwo"\n\na.png,,three\n')
    assert [r.where.rsplit(" ", 1)[1] for r in records] == ["2", "5"]
    assert [r.id for r in records] == ["q:2", "q:5"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("q.csv", b"picture,mask,question\na.png,,x\n", r"line 1 must name the columns; image is not in"),
        ("q.csv", b"", "holds no question"),
        ("q.csv", HEADER.encode(), "holds no question"),
        ("q.csv", (HEADER + "a.png,,ok\na.png,,café\n").encode("cp1252"), "line 3 is not utf-8.*--encoding cp1252"),
        ("q.csv", (HEADER + 'a.png,,the "old" cup"x\n"a').encode(), "line 3 is not CSV"),
        ("q.xlsx", b"PK", "not .csv, .tsv or .jsonl"),
        ("q.jsonl", b"\n\n", "holds no question"),
    ],
)
def test_unreadable_tables_are_refused(root: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        questions(root, name, data)


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("q.csv", "a.png,,the red, blue cup", "line 3 has 4 cells, the header 3; put .quotes."),
        ("q.csv", "a.png", "line 3 has 1 cells"),
        ("q.csv", "a.png,,  ", "line 3 has an empty question"),
        ("q.csv", ",,cup", "line 3 has an empty image"),
        ("q.csv", "c.png,,cup", "line 3: image .*c.png does not exist"),
        ("q.jsonl", '{"image": "a.png", "question": "cup"}', "line 3 cannot be used: no mask"),
        ("q.jsonl", '{"image": "a.png", "mask": null, "question": {"en": "cup"}}', "line 3 .*neither text nor"),
        ("q.jsonl", '["a.png"]', "line 3 .*a JSON list"),
        ("q.jsonl", '{"image": ', "line 3 cannot be used"),
        ("q.jsonl", "[" * 100_000, "line 3 cannot be used"),
    ],
)
def test_bad_lines_can_be_skipped_and_are_named(root: Path, name: str, line: str, message: str) -> None:
    good = '{"image": "a.png", "mask": "first.png", "question": "cup"}'
    start = f"{HEADER}a.png,first.png,cup\n" if name == "q.csv" else f"\n{good}\n"
    (root / name).write_text(start + line + "\n")
    source = folder.Source(list_records(root / name, root), load)
    with pytest.raises(InputError, match=message):
        build(source, root / "out.parquet", image_size=None)
    assert not (root / "out.parquet").exists()
    report = build(source, root / "out.parquet", image_size=None, skip_bad=True)
    assert report.rows == 1


def test_double_ids_are_refused(root: Path) -> None:
    first, second = questions(root, "q.csv", b"image,mask,question,id\na.png,,cup,7\na.png,,mug,7\n")
    assert not first.problem
    assert "id '7' is taken by" in second.problem and "line 2" in second.problem


def test_windows_and_absolute_paths_are_found(root: Path) -> None:
    (root / "deep").mkdir()
    Image.new("RGB", (20, 10)).save(root / "deep" / "c.png")
    data = f"{HEADER}deep\\c.png,{root / 'first.png'},cup\n".encode()
    assert len(load(questions(root, "q.csv", data)[0]).masks) == 1


def test_cp1252_is_read_when_named(root: Path) -> None:
    (root / "q.csv").write_bytes((HEADER + "a.png,,café\n").encode("cp1252"))
    assert read_table(root / "q.csv", (), "cp1252")[0].text("question") == "café"
    with pytest.raises(InputError, match="--encoding 'nope' is unknown"):
        read_table(root / "q.csv", (), "nope")


def test_grey_saved_as_colours_is_grey(root: Path) -> None:
    Image.open(root / "both.png").convert("RGB").save(root / "rgb.png")
    assert set(np.unique(read_labels(root / "rgb.png", False))) == {0, 1, 2}


def test_train_and_val_share_no_picture_and_lose_no_question() -> None:
    records = [(f"{i % 7}.png", i) for i in range(40)]
    parts = {split: take_split(records, lambda r: r[0], split, 0.3) for split in ("train", "val", "all")}
    assert sorted(parts["train"] + parts["val"]) == sorted(parts["all"]) == sorted(records)
    pictures = {split: {name for name, _ in part} for split, part in parts.items()}
    assert not pictures["train"] & pictures["val"] and len(pictures["val"]) == 3
    assert take_split(records[::-1], lambda r: r[0], "val", 0.3) == parts["val"][::-1]
    assert take_split([("a", 1), ("b", 2)], lambda r: r[0], "train", 0.9)
    for fraction in (0.0, 1.0, float("nan")):
        with pytest.raises(InputError, match="--val_fraction"):
            take_split(records, lambda r: r[0], "all", fraction)
    with pytest.raises(InputError, match="two pictures"):
        take_split([("a", 1)], lambda r: r[0], "val", 0.3)


def test_a_split_says_how_many_pictures_it_took() -> None:
    records = [("a", 1), ("a", 2), ("b", 3), ("c", 4)]

    def notes(split: str) -> tuple[str, ...]:
        taken = take_split(records, lambda r: r[0], split, 0.1)
        return split_notes(records, taken, lambda r: r[0], split)

    assert notes("train") == ("--split train: 2 of 3 pictures; 1 held out for --split val",)
    assert notes("val") == ("--split val: 1 of 3 pictures; 2 left to --split train",)
    assert notes("all") == ()


@pytest.mark.parametrize("option", ["--val_fraction", "--val_share"])
def test_the_fraction_for_validation_goes_by_its_former_name_too(option: str) -> None:
    parser = argparse.ArgumentParser()
    folder.add_arguments(parser)
    assert parser.parse_args(["--questions", "q.csv"]).val_fraction == 0.1
    assert parser.parse_args(["--questions", "q.csv", option, "0.3"]).val_fraction == 0.3


def test_the_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = [
        {"image": "a.png", "mask": "both.png", "question": "all squares", "kind": "plural", "id": "x"},
        {"image": "b.jpg", "mask": None, "question": "the circle"},
        {"image": "nope.jpg", "mask": None, "question": "the circle"},
    ]
    (root / "q.jsonl").write_text("\n".join(map(json.dumps, table)))
    argv = ["folder", "--questions", str(root / "q.jsonl"), "--out", str(root / "o.parquet"), "--workers", "1"]
    assert main([*argv, "--mask_values", "objects", "--image_size", "56", "--skip-bad"]) == 0
    rows = list(open_rows(root / "o.parquet"))
    assert [(row.id, row.problem, row.kind) for row in rows] == [
        ("x", "all squares", "plural"),
        ("q:2", "the circle", ""),
    ]
    # 20 x 10 becomes 56 x 56: x * 2.8, y * 5.6, rounded.
    assert [item.box for item in rows[0].objects()] == [(6, 17, 14, 34), (34, 22, 45, 45)]
    assert rows[1].objects() == () and "q.jsonl line 3" in capsys.readouterr().out


def test_root_is_the_tables_folder_unless_given(root: Path) -> None:
    (root / "lists").mkdir()
    (root / "lists" / "q.csv").write_text(f"{HEADER}a.png,,cup\n")
    parser = argparse.ArgumentParser()
    folder.add_arguments(parser)
    given = folder.source(parser.parse_args(["--questions", str(root / "lists/q.csv"), "--root", str(root)]))
    assert load(given.records[0]).question == "cup"
    own = folder.source(parser.parse_args(["--questions", str(root / "lists/q.csv")]))
    assert own.records[0].image == root / "lists" / "a.png"
    with pytest.raises(InputError, match=r"--root .* is not a folder"):
        folder.source(parser.parse_args(["--questions", str(root / "lists/q.csv"), "--root", str(root / "no")]))
