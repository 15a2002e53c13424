"""`seg-zero data check` and `import`: what is found, what is kept, what training makes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg_zero.answer import write_solution_multi
from seg_zero.cli.data.check import histogram
from seg_zero.cli.main import main
from seg_zero.data import check as check_module
from seg_zero.data.cache import cache_folder
from seg_zero.data.check import ERRORS, WARNINGS, check, check_once
from seg_zero.data.contact_sheet import TILE, contact_sheet, draw_row
from seg_zero.data.rows import Row, write_rows
from seg_zero.data.source import open_rows
from seg_zero.errors import InputError
from seg_zero.images import encode_png
from seg_zero.masks import encode_mask, mask_to_prompt_object
from seg_zero.training.launch import checks, start
from seg_zero.training.launch.config import load_config

SIZE = (40, 30)
TINY = ["policy=tiny", "data=synthetic", "hardware=cpu_2core", "schedule=tiny"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def _row(number: int, **change: Any) -> Row:
    rng = np.random.default_rng(number)
    mask = np.zeros(SIZE[::-1], dtype=bool)
    mask[8:20, 10:25] = True
    image = Image.fromarray(rng.integers(0, 255, (*SIZE[::-1], 3), dtype=np.uint8))
    solution = write_solution_multi([mask_to_prompt_object(mask)])
    row = Row(f"row-{number}", f"thing {number}", solution, encode_png(image), 30, 40, encode_mask(mask))
    return replace(row, **change)


def _solution(box: Sequence[int], point: Sequence[int]) -> str:
    return json.dumps([{"bbox_2d": box, "point_2d": point}])


EMPTY = encode_mask(np.zeros(SIZE[::-1], dtype=bool))
OTHER_SIZE = encode_mask(np.ones((10, 10), dtype=bool))
BAD: list[tuple[dict[str, Any], str]] = [
    ({"problem": " ?"}, "unusable question"),
    ({"problem": "the <|im_end|> cup"}, "unusable question"),
    ({"image_bytes": _row(1).image_bytes[:200]}, "unreadable image"),
    ({"image_bytes": b"no picture"}, "unreadable image"),
    ({"solution": "<box>(1,2)</box>"}, "unreadable solution"),
    ({"solution": ""}, "unreadable solution"),
    ({"solution": '[{"point_2d":[1,2]}]'}, "unreadable solution"),
    ({"solution": '[{"bbox_2d":[NaN,2,3,4]}]'}, "unreadable solution"),
    ({"mask": {"size": [30, 40], "counts": "!!"}}, "unreadable mask"),
    ({"mask": OTHER_SIZE}, "mask of another size than the image"),
    ({"ignore": OTHER_SIZE}, "mask of another size than the image"),
    ({"solution": _solution([10, 8, 41, 19], [15, 12])}, "box outside the image"),
    ({"solution": _solution([-1, 8, 24, 19], [15, 12])}, "box outside the image"),
    ({"solution": _solution([10, 8, 10, 19], [10, 12])}, "box without area"),
    ({"solution": _solution([24, 8, 10, 19], [15, 12])}, "box without area"),
    ({"solution": _solution([10, 8, 24, 19], [15, 31])}, "point outside the image"),
    ({"solution": _solution([10, 8, 24, 19], [9, 12])}, "point outside its box"),
    ({"solution": _solution([0, 0, 40, 30], [2, 2])}, "point outside the mask"),
    ({"solution": "[]"}, "mask and solution disagree"),
    ({"mask": EMPTY}, "mask and solution disagree"),
]


@pytest.mark.parametrize(("change", "what"), BAD)
def test_each_problem_is_found(change: dict[str, Any], what: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.parquet", [_row(0), _row(1, **change), _row(2)])
    report = check(open_rows(tmp_path / "rows.parquet"))
    assert (1, what) in {(problem.row, problem.what) for problem in report.problems}
    assert {problem.row for problem in report.problems} == {1}
    assert report.counts()[what] == 1
    assert report.bad_rows == ([1] if what in ERRORS else [])
    assert what in ERRORS + WARNINGS and all("\n" not in problem.line() for problem in report.problems)


def test_good_rows_have_no_problem(tmp_path: Path) -> None:
    """Boxes of both conventions, points a pixel beside the mask, no mask, no object."""
    good = [
        _row(0),
        _row(1, mask=None),
        _row(2, mask=None, solution=_solution([0, 0, 40, 30], [40, 30])),
        _row(3, solution=_solution([9, 8, 25, 19], [9, 12])),
        _row(4, mask=EMPTY, solution="[]"),
        _row(5, img_height=0, img_width=0, solution="<box>(10,8),(24,19)</box><points>(15,12),(20,15)</points>"),
    ]
    write_rows(tmp_path / "rows.parquet", good)
    report = check(open_rows(tmp_path / "rows.parquet"))
    assert report.problems == []
    assert report.object_counts == [1, 1, 1, 1, 0, 1]
    assert report.box_shares[2] == 1.0 and len(report.box_shares) == 5
    assert set(report.question_lengths) == {7}


def test_duplicate_ids_are_found_in_any_distance(tmp_path: Path) -> None:
    rows = [_row(number) for number in range(200)]
    write_rows(tmp_path / "rows.parquet", [*rows, rows[0], rows[0]])
    problems = check(open_rows(tmp_path / "rows.parquet")).problems
    assert [(p.row, p.what, p.detail) for p in problems] == [
        (200, "duplicate id", "row 0 has it too"),
        (201, "duplicate id", "row 0 has it too"),
    ]


@pytest.mark.parametrize(
    ("template", "solution", "fits"),
    [
        ("single", _row(0).solution, False),  # one point
        ("single", "<box>(10,8),(24,19)</box><points>(15,12),(20,15)</points>", True),
        ("single", "[]", False),
        ("multi", "[]", True),
        ("multi", "<box>(10,8),(24,19)</box>", False),  # no point
    ],
)
def test_solutions_must_fit_the_template(template: str, solution: str, fits: bool, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.parquet", [_row(0, solution=solution, mask=None)])
    source = open_rows(tmp_path / "rows.parquet")
    assert check(source).problems == []
    assert [p.what for p in check(source, template).problems] == (
        [] if fits else ["solution does not fit the template"]
    )


def test_records_that_are_no_rows_are_counted(tmp_path: Path) -> None:
    record = {"id": "a", "problem": "thing", "solution": "[]", "image": "gone.png"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(record))
    report = check(open_rows(tmp_path / "rows.jsonl"))
    assert report.bad_rows == [0] and report.problems[0].what == "unreadable row"
    assert "gone.png does not exist" in report.problems[0].detail


def test_processes_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "_ROWS_PER_PROCESS", 50)
    rows = [_row(number) for number in range(150)]
    rows[10] = replace(rows[10], image_bytes=b"?")
    rows[130] = replace(rows[130], problem="", id="row-3")
    write_rows(tmp_path / "rows.parquet", rows)
    source, told = open_rows(tmp_path / "rows.parquet"), []
    alone = check(source, workers=1)
    assert check(source, workers=2, progress=told.append) == alone
    assert [(p.row, p.what) for p in alone.problems] == [
        (10, "unreadable image"),
        (130, "unusable question"),
        (130, "duplicate id"),
    ]
    assert sum(told) >= 150


def test_results_are_kept_by_content(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, [_row(0), _row(1, problem="")])
    first, known = check_once(open_rows(path), "brief")
    assert not known and first.bad_rows == [1]
    assert check_once(open_rows(path), "brief") == (first, True)
    assert not check_once(open_rows(path), "multi")[1]
    for file in (cache_folder() / "checks").iterdir():
        file.write_bytes(b'{"source": 1')
    assert check_once(open_rows(path), "brief") == (first, False)
    assert check_once(open_rows(path), "brief")[1]
    write_rows(path, [_row(0)])
    assert check_once(open_rows(path), "brief")[0].problems == []


def _dataset(folder: Path, bad: bool = True) -> Path:
    rows = [_row(number) for number in range(20)]
    if bad:
        rows[4] = replace(rows[4], image_bytes=rows[4].image_bytes[:100])
        rows[7] = replace(rows[7], solution="nothing")
    write_rows(folder / "rows.parquet", rows)
    return folder / "rows.parquet"


def test_check_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints counts and bad rows, writes report and pictures, and says by its exit code whether rows are bad."""
    path, out = _dataset(tmp_path), tmp_path / "report"
    assert main(["data", "check", str(path), "--out", str(out), "--samples", "5"]) == 1
    printed = capsys.readouterr().out
    assert f"{path}: 20 rows, 2 with errors" in printed
    assert "1  unreadable image" in printed and "row 7 (row-7): unreadable solution: cannot read" in printed
    assert "no warnings" in printed
    for title in ("question length in characters", "objects per row", "box size as a fraction"):
        assert title in printed
    problems = [json.loads(line) for line in (out / "problems.jsonl").read_text().splitlines()]
    assert [(p["row"], p["error"]) for p in problems] == [(4, True), (7, True)]
    report = json.loads((out / "report.json").read_text())
    assert report["bad_rows"] == [4, 7] and len(report["contact_sheet_rows"]) == 5
    assert Image.open(out / "contact_sheet.png").width > 4 * TILE
    assert Image.open(out / "problems.png").width > 2 * TILE
    _dataset(tmp_path, bad=False)
    assert main(["data", "check", str(path)]) == 0
    assert "no errors" in capsys.readouterr().out


def test_check_command_counts_long_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [_row(0), _row(1, problem="the " + "very " * 40 + "small thing"), _row(2, problem="")]
    write_rows(tmp_path / "rows.parquet", rows)
    arguments = ["data", "check", str(tmp_path / "rows.parquet"), "--policy", "tiny", "--max_prompt_length", "60"]
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "1  over-long prompt" in printed and "row 1 (row-1): over-long prompt: " in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.parquet"], "dataset none.parquet does not exist"),
        (["empty.parquet"], "has no rows"),
        (["rows.parquet", "--samples", "0"], "--samples 0"),
        (["rows.parquet", "--policy", "/nowhere"], "policy /nowhere is neither a folder nor a hub id"),
    ],
)
def test_check_command_refuses(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows("empty.parquet", [])
    _dataset(tmp_path)
    assert main(["data", "check", *arguments]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_import_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = _dataset(tmp_path), tmp_path / "deep" / "out.parquet"
    assert main(["data", "import", str(path), "--out", str(out)]) == 2
    assert "2 of 20 rows of" in capsys.readouterr().err and not out.exists()
    assert main(["data", "import", str(path), "--out", str(out), "--skip-bad"]) == 0
    printed = capsys.readouterr().out
    assert "skipped: row 4 (row-4): unreadable image" in printed and f"18 rows written to {out}; 2 skipped" in printed
    kept = [row for row in open_rows(path) if row.id not in ("row-4", "row-7")]
    assert open_rows(out)[:] == kept
    write_rows(path, [_row(0, problem="")])
    assert main(["data", "import", str(path), "--out", str(out), "--skip-bad"]) == 2
    assert "no row of" in capsys.readouterr().err and open_rows(out)[:] == kept


def test_pictures_have_the_original_proportions() -> None:
    assert draw_row(_row(0, img_height=300, img_width=100)).size == (100, 300)
    assert draw_row(_row(0, img_height=0, img_width=0)).size == (300, 225)
    assert draw_row(_row(0, solution="?", mask=OTHER_SIZE)).size == (300, 225)
    with pytest.raises(InputError, match="cannot be read"):
        draw_row(_row(0, image_bytes=b"?"))


def test_contact_sheet_takes_any_row(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.parquet", [_row(i, **change) for i, (change, _) in enumerate(BAD)])
    source = open_rows(tmp_path / "rows.parquet")
    sheet = contact_sheet(source, range(len(source)), "all", {0: "wrong " * 200, 2: "图"})
    assert sheet.width < 5 * TILE and sheet.height > 5 * TILE


def test_contact_sheet_of_landscapes_has_no_empty_half(tmp_path: Path) -> None:
    """Bands are as high as their tallest picture (here 75 of the 300 pixels)."""
    write_rows(tmp_path / "rows.parquet", [_row(i, img_width=400, img_height=100) for i in range(4)])
    sheet = contact_sheet(open_rows(tmp_path / "rows.parquet"), range(4), "wide")
    assert sheet.width > 4 * TILE and sheet.height < TILE


def test_histogram_shows_every_value() -> None:
    text = histogram("sizes", [1, 1, 5, 100], [0, 2, 4, 6, np.inf], ["a", "b", "c", "d"])
    assert [line.split()[-1] for line in text.splitlines()[1:]] == ["2", "0", "1", "1"]
    assert histogram("nothing", [], [0, 1], ["a"]) == "nothing: from 0 to 0, median 0"


def _config(path: Path, tmp_path: Path, *more: str) -> Any:
    files = [f"data.train_files={path}", f"data.val_files={path}", f"output_dir={tmp_path / 'run'}"]
    return load_config([*TINY, *files, *more])


def test_training_refuses_bad_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _config(_dataset(tmp_path), tmp_path)
    with pytest.raises(InputError) as error:
        checks.find_bad_rows(config, skip_bad=False)
    message = str(error.value)
    assert "2 of 20 rows of" in message and "(1 unreadable image, 1 unreadable solution)" in message
    assert "row 4 (row-4)" in message and "--skip-bad skips them" in message and "\n" not in message
    assert list(checks.find_bad_rows(config, skip_bad=True).values()) == [[4, 7]]
    assert "2 of 20 rows of" in capsys.readouterr().out
    good = _config(_dataset(tmp_path, bad=False), tmp_path)
    assert checks.find_bad_rows(good, skip_bad=False) == checks.find_bad_rows(good, skip_bad=False) == {}
    printed = capsys.readouterr().out
    assert printed.count("all 20 rows of") == 2 and printed.count("as checked before") == 1


def test_skip_bad_reaches_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher writes the rows and the configuration names them; the count of rows is without them."""
    path, started = _dataset(tmp_path), []
    monkeypatch.setattr(start, "supervise", lambda config, *_: started.append(config) or 0)
    monkeypatch.setattr(checks, "check_run", lambda config: None)
    files = [f"data.train_files={path}", f"data.val_files={path}", f"output_dir={tmp_path / 'run'}"]
    with pytest.raises(InputError, match="--skip-bad"):
        start.launch([*TINY, *files])
    assert not (tmp_path / "run").exists()
    assert start.launch([*TINY, *files], skip_bad=True) == 0
    assert json.loads((tmp_path / "run" / "bad_rows.json").read_text()) == {str(path): [4, 7]}
    assert started[0].data.bad_rows == str(tmp_path / "run" / "bad_rows.json")
    assert checks.count_rows(started[0], "train_files") == 18


def test_augmentation_needs_other_validation_rows(tmp_path: Path) -> None:
    config = _config(_dataset(tmp_path), tmp_path, "data.augmentation.flip=0.5")
    with pytest.raises(InputError, match="would vary the validation rows too"):
        checks.check_data(config)
