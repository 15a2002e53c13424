"""The check of a data set: counts, unknown values with their files, bad files by name and reason, the sheet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.aerial_folders import save_colours, save_labels, save_picture
from PIL import Image

from seg_zero.cli.main import main
from seg_zero.remote_sensing.data.check import check_tiles
from seg_zero.remote_sensing.data.contact_sheet import choose, contact_sheet
from seg_zero.remote_sensing.data.folders import open_tiles


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Two good tiles and one of each way in which a tile can be bad."""
    images, masks = tmp_path / "LoveDA/images_png", tmp_path / "LoveDA/masks_png"
    for name in ("good", "other", "unknown", "size", "broken", "no_map", "colour", "cut"):
        save_picture(images / f"{name}.png", (64, 48))
        save_labels(masks / f"{name}.png", [1, 255], (64, 48))
    save_labels(masks / "other.png", [7] * 40, (64, 48))
    save_labels(masks / "unknown.png", [1, 9, 9, 200], (64, 48))
    save_labels(masks / "size.png", [1], (48, 64))
    (images / "broken.png").write_bytes(b"no picture")
    (masks / "no_map.png").unlink()
    save_colours(masks / "colour.png", [(9, 9, 9)], (64, 48))
    data = (masks / "cut.png").read_bytes()
    (masks / "cut.png").write_bytes(data[: len(data) // 2])
    save_labels(masks / "alone.png", [1], (64, 48))
    return tmp_path


def test_each_bad_file_is_named_with_its_reason_and_none_ends_the_check(damaged: Path) -> None:
    report = check_tiles(open_tiles("loveda", damaged), workers=3)
    assert [one.name for one in report.checked] == sorted(one.name for one in report.checked)
    assert [one.name for one in report.usable] == ["good", "other"]
    reasons = dict(report.problems)
    for name, reason in (
        ("unknown", "holds values 9, 200, no class"),
        ("size", "has 48x64 pixels, its picture 64x48"),
        ("broken", "unknown format"),
        ("no_map", "does not exist; complete the data set"),
        ("colour", "is in colours (RGB)"),
        ("cut", "cannot be read"),
        ("alone.png", "has no picture"),
    ):
        assert reason in reasons[name], name
    assert len(reasons) == 7
    assert report.unknown == {"9": (2, ["unknown"]), "200": (1, ["unknown"])}


def test_counts_by_class(damaged: Path) -> None:
    report = check_tiles(open_tiles("loveda", damaged))
    size = 64 * 48
    assert report.pixels().tolist() == [0, size - 1, 0, 0, 0, 0, 0, size]
    assert report.tiles_with().tolist() == [0, 1, 0, 0, 0, 0, 0, 1]
    summary = report.summary()
    for line in ("8 tiles, 2 usable", "2 of 64x48", "value 9 is no class: 2 pixels in unknown", "7 cannot be used:"):
        assert line in summary


def test_the_sheet_shows_every_class(damaged: Path) -> None:
    report = check_tiles(open_tiles("loveda", damaged))
    assert [one.name for one in choose(report.usable, 8, 2)] == ["good", "other"]
    assert [one.name for one in choose(report.usable, 8, 1)] == ["good"]  # the rarer class first
    sheet = contact_sheet(report)
    assert sheet.width > 1000 and sheet.height > 400
    assert choose([], 8, 4) == []


def test_the_command_writes_a_report_and_fails(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = damaged / "out"
    assert main(["remote-sensing", "check", "loveda", str(damaged), "--out", str(out)]) == 1
    assert "7 cannot be used" in capsys.readouterr().out
    record = json.loads((out / "report.json").read_text())
    assert record["tiles"] == 8 and record["usable"] == 2 and len(record["problems"]) == 7
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 1000


def test_a_good_data_set_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_picture(tmp_path / "VDD/src/a.JPG")
    save_labels(tmp_path / "VDD/gt/a.png", [0, 6])
    assert main(["remote_sensing", "check", "vdd", str(tmp_path)]) == 0
    assert "no problems" in capsys.readouterr().out
    assert main(["remote-sensing", "check", "vdd", str(tmp_path), "--samples", "0"]) == 2
    assert main(["remote-sensing", "chek"]) == 2
    assert "did you mean check?" in capsys.readouterr().err
