"""Scans against their truth by class, and the report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from seg_zero.cli.main import main
from seg_zero.errors import InputError
from seg_zero.online3d.evaluation.judge import judge_folders, read_classes
from seg_zero.online3d.results.files import write_result
from seg_zero.online3d.results.result import Result

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CLASSES = {"chair": 2, "table": 3, "lamp": 4}


def cube(at: float) -> np.ndarray:
    return np.random.default_rng(int(10 * at)).uniform(0, 0.5, (200, 3)) + np.array([at, 0, 0])


@pytest.fixture
def scanned(tmp_path: Path) -> Path:
    """A scan that found two chairs and a table exactly; one of the chairs is called a table."""
    points = np.concatenate([cube(0), cube(2), cube(4)]).astype(np.float32)
    masks = np.repeat(np.eye(3, dtype=bool), 200, axis=0)
    folder = tmp_path / "<scan>"
    folder.mkdir()
    frames = [np.array([0, 10])] * 3
    numbers = np.array([7, 8, 9])
    write_result(
        Result(points, np.zeros((600, 3), dtype=np.uint8), masks, np.zeros((3, 0)), numbers, numbers, frames), folder
    )
    ids = np.repeat([2001, 2002, 3001], 200)
    np.savez(tmp_path / "truth.npz", points=points, ids=ids)
    objects = [{"number": 7, "label": "chair"}, {"number": 8, "label": "table"}, {"number": 9, "label": "table"}]
    (folder / "labels.json").write_text(json.dumps({"objects": objects}))
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    return folder


def test_names_count_by_class_only(scanned: Path) -> None:
    judged = judge_folders([scanned], scanned.parent / "truth.npz", classes=CLASSES)
    assert judged.together["AP50"] == 1
    # One of two chairs is found; one of two tables is right, and the wrong one cannot be told from it.
    assert judged.classes["chair"]["AP50"] == pytest.approx(0.5)
    assert 0.4 < judged.classes["table"]["AP50"] < 1
    assert set(judged.classes) == {"chair", "table"}  # no lamp is there
    assert judged.mean["AP50"] == pytest.approx(np.mean([one["AP50"] for one in judged.classes.values()]))


def test_classes_that_are_not_named_are_void(scanned: Path) -> None:
    judged = judge_folders([scanned], scanned.parent / "truth.npz", classes={"chair": 2})
    assert set(judged.classes) == {"chair"} and judged.together["AP50"] == 1


def test_the_command_writes_a_report(scanned: Path, capsys: pytest.CaptureFixture[str], browser: Browser) -> None:
    words = ["--truth", str(scanned.parent / "truth.npz"), "--classes", str(scanned.parent / "classes.json")]
    assert main(["scan", "evaluate", str(scanned), *words]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^chair +0\.500  0\.500  0\.500$", printed, re.MULTILINE) and "mean of classes" in printed
    stored = json.loads((scanned / "evaluation.json").read_text())
    assert stored["classes"]["chair"]["AP50"] == 0.5 and stored["mean_of_classes"]["AP50"] > 0.5
    for width in (1280, 390):
        view = browser.new_page(viewport={"width": width, "height": 900})
        view.goto((scanned / "evaluation.html").as_uri())
        assert "3 objects were found, 3 are there" in view.locator(".lead").inner_text()
        assert view.locator(".tile b").all_inner_texts() == ["1.000"] * 3
        assert view.locator("table").first.locator("td").first.inner_text() == "<scan>"
        assert view.locator("table").nth(1).locator("tr").count() == 4
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        view.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "holds no classes"),
        ('["chair"]', "holds no classes"),
        ('{"chair": "many"}', "holds no classes"),
        ("{}", "give each its own"),
        ('{"chair": 0}', "give each its own"),
        ('{"chair": 2, "table": 2}', "give each its own"),
    ],
)
def test_bad_classes_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_classes(tmp_path / "classes.json")


def test_a_scan_without_names_says_how_to_get_them(scanned: Path) -> None:
    (scanned / "labels.json").unlink()
    with pytest.raises(InputError, match="have no names; give them with `seg-zero scan label"):
        judge_folders([scanned], scanned.parent / "truth.npz", classes=CLASSES)
