"""Whole scans: outputs, going on after a kill, bad frames in the middle, the commands and the page."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.rooms import ROOM, SETTINGS
from numba.core.dispatcher import Dispatcher

from seg_zero.cli.main import main
from seg_zero.errors import InputError
from seg_zero.online3d.inputs.frames import Frame, FrameMasks
from seg_zero.online3d.inputs.mask_sources import FolderMasks
from seg_zero.online3d.page.write import page, upright
from seg_zero.online3d.results.files import read_result
from seg_zero.online3d.results.result import owners
from seg_zero.online3d.scan import STATE, ScanSummary, compile_loops, describe, read_summary, scan
from seg_zero.online3d.synthetic.files import EXACT, read_truth, write_sequence
from seg_zero.online3d.synthetic.sequence import Faults, SyntheticSequence

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "room"
    write_sequence(SyntheticSequence(ROOM, 12, 160, 120, faults=Faults(split=0.1), turns=0.6), folder)
    return folder


def run(sequence: Path, out: Path, source: object = None, **options: float) -> tuple[ScanSummary, list[str]]:
    lines: list[str] = []
    masks = source or FolderMasks(sequence / EXACT)
    summary = scan(sequence, out, masks, "exact", settings=SETTINGS, say=lines.append, **options)  # type: ignore[arg-type]
    return summary, lines


@pytest.fixture(scope="module")
def finished(sequence: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scan") / "done"
    run(sequence, out)
    return out


def compiled() -> dict[str, int]:
    """How many versions of each loop numba has compiled or loaded in this process."""
    loops = (value for name in sorted(sys.modules) if name.startswith("seg_zero.online3d.")
             for value in vars(sys.modules[name]).values() if isinstance(value, Dispatcher))  # fmt: skip
    return {loop.__name__: len(loop.signatures) for loop in loops}


def test_no_frame_waits_for_the_compiler(sequence: Path, tmp_path: Path) -> None:
    compile_loops()
    before = compiled()
    _, lines = run(sequence, tmp_path / "out")
    assert compiled() == before and len(before) > 15
    assert lines[0].startswith("loading the compiled loops; the first time on a machine they are compiled")


def test_a_scan_writes_arrays_points_and_a_summary(finished: Path) -> None:
    summary = read_summary(finished)
    assert summary is not None and summary.finished and summary.used == summary.key_frames == 12
    assert set(summary.milliseconds) == {"read", "masks", "project", "surface", "lift", "associate", "merge"}
    with np.load(finished / "ckpt_final.npz") as file:
        count = summary.instances
        assert file["pred_masks"].shape == (summary.points, count) and file["pred_masks"].dtype == bool
        assert file["pred_score"].tolist() == [1] * count and file["pred_classes"].tolist() == [0] * count
        assert file["pred_sem_features"].shape == (0, count)
    header, _, body = (finished / "final.ply").read_bytes().partition(b"end_header\n")
    assert f"element vertex {summary.points}\n".encode() in header
    assert len(body) == summary.points * (3 * 4 + 3 + 4)
    assert not (finished / STATE).exists()
    assert abs(np.array(summary.up) / np.linalg.norm(summary.up))[2] > 0.9


class Stopping:
    """Masks of a folder, until a frame at which the run is killed."""

    def __init__(self, folder: Path, at: int) -> None:
        self.masks, self.at, self.asked = FolderMasks(folder), at, 0

    def __call__(self, frame: Frame) -> FrameMasks:
        self.asked += 1
        if frame.number == self.at:
            raise KeyboardInterrupt
        return self.masks(frame)


@pytest.mark.parametrize("at", [30, 70])
def test_a_killed_scan_goes_on_and_ends_the_same(at: int, sequence: Path, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(sequence, tmp_path / "out", Stopping(sequence / EXACT, at), checkpoint_seconds=0.0)
    again = Stopping(sequence / EXACT, -1)
    summary, lines = run(sequence, tmp_path / "out", again)
    assert lines[0] == f"going on at key frame {at // 10 + 1} of 12" and summary.resumed_at == [at // 10]
    assert again.asked == 12 - at // 10
    assert summary.used == 12
    for name in np.load(finished / "ckpt_final.npz").files:
        with np.load(finished / "ckpt_final.npz") as whole, np.load(tmp_path / "out" / "ckpt_final.npz") as resumed:
            assert np.array_equal(whole[name], resumed[name]), name


def test_a_damaged_checkpoint_is_named(sequence: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(sequence, tmp_path / "out", Stopping(sequence / EXACT, 20), checkpoint_seconds=0.0)
    (tmp_path / "out" / STATE).write_bytes(b"half")
    with pytest.raises(InputError, match="delete it to start anew"):
        run(sequence, tmp_path / "out")


def test_a_folder_with_another_scan_is_refused_and_a_finished_one_left_alone(sequence: Path, finished: Path) -> None:
    before = (finished / "ckpt_final.npz").stat().st_mtime_ns
    assert "finished" in run(sequence, finished)[1][0]
    assert (finished / "ckpt_final.npz").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="holds another scan"):
        scan(sequence, finished, FolderMasks(sequence / EXACT), "exact", settings=[*SETTINGS, "coverage=0.5"])


def test_bad_frames_in_the_middle_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "room"
    write_sequence(SyntheticSequence(ROOM, 6, 160, 120, turns=0.4), folder)
    (folder / "depth" / "10.png").write_bytes(b"damaged")
    (folder / EXACT / "mask" / "20.png").unlink()
    (folder / "poses" / "30.txt").write_text("nan nan")
    summary, lines = run(folder, tmp_path / "out")
    assert summary.used == 4 and summary.key_frames == 6 and summary.borrowed_poses == 1
    assert [re.findall(r"frame (\d+)", line)[0] for line in summary.left_out] == ["10", "20"]
    assert sum(line.startswith("left out: frame") for line in lines) == 2


def test_a_scan_of_nothing_usable_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "room"
    write_sequence(SyntheticSequence(ROOM, 2, 160, 120, turns=0.4), folder)
    for path in (folder / "depth").iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"none of 2 key frames could be used; the first: frame 0"):
        run(folder, tmp_path / "out")


class TrueFeatures:
    """Exact masks whose vectors say which object they are."""

    def __init__(self, sequence: SyntheticSequence) -> None:
        self.sequence = sequence

    def __call__(self, frame: Frame) -> FrameMasks:
        ids = self.sequence.view(frame.number // 10).ids
        names = np.unique(ids)
        order = np.random.default_rng(frame.number).permutation(len(names)) + 1
        labels = np.zeros(ids.shape, dtype=np.int32)
        vectors = {}
        for label, name in zip(order.tolist(), names.tolist(), strict=True):
            labels[ids == name] = label
            vectors[label] = np.eye(20)[_column(name)]
        return FrameMasks(labels, vectors)


def _column(identity: int) -> int:
    return (identity // 1000 - 1) * 5 + identity % 1000 - 1


def test_features_stand_in_the_order_of_the_masks(sequence: Path, tmp_path: Path) -> None:
    """The original sorts the masks by size before it writes them, but not their features."""
    exact = SyntheticSequence(ROOM, 12, 160, 120, turns=0.6)
    run(sequence, tmp_path / "out", TrueFeatures(replace(exact, noise=0.0)))
    result, truth = read_result(tmp_path / "out"), read_truth(sequence / "truth.npz")
    assert result.features.shape == (result.masks.shape[1], 20) and result.masks.shape[1] >= 6
    assert (np.diff(result.masks.sum(0)) <= 0).all()
    for column in range(result.masks.shape[1]):
        points = result.points[result.masks[:, column]]
        nearest = ((truth.points[None] - points[::25, None]) ** 2).sum(-1).argmin(1)
        names, counts = np.unique(truth.ids[nearest], return_counts=True)
        assert result.features[column].argmax() == _column(int(names[counts.argmax()]))


def test_commands(sequence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = tmp_path / "masks"
    (masks / "room").mkdir(parents=True)
    (masks / "room" / "mask").symlink_to(sequence / EXACT / "mask")
    line = ["scan", "--all", str(sequence.parent), "--masks", str(masks), "--out", str(tmp_path / "all"), "--quiet"]
    assert main([*line, "--set", *SETTINGS]) == 0
    assert "1 of 1 sequences" in capsys.readouterr().out
    assert main(["scan", "evaluate", str(tmp_path / "all" / "room"), "--min-vertices", "30"]) == 0
    table = capsys.readouterr().out
    stored = json.loads((tmp_path / "all" / "room" / "evaluation.json").read_text())
    assert stored["together"]["AP50"] >= 0.75  # few key frames: what is seen less than five times is missing
    assert f"{stored['together']['AP50']:.3f}" in table and "8 (10)" in table
    assert main(["scan", "show", str(tmp_path / "all" / "room")]) == 0
    assert (tmp_path / "all" / "room" / "index.html").stat().st_size > 50_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give one of: the folder of a sequence, --all DATASET, --demo"),
        (["NOWHERE"], "is no folder"),
        (["SEQUENCE", "--set", "voxel=1"], "unknown setting 'voxel'"),
        (["SEQUENCE", "--masks", "NOWHERE"], "holds no masks"),
        (["show", "NOWHERE"], "holds no ckpt_final.npz"),
        (["show", "NOWHERE", "--max_points", "0"], "is less than 1"),
        (["evaluate", "NOWHERE"], "holds no ckpt_final.npz"),
    ],
)
def test_bad_words_are_one_line(
    words: list[str], message: str, sequence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"NOWHERE": str(tmp_path / "nowhere"), "SEQUENCE": str(sequence)}
    line = ["scan", *(places.get(word, word) for word in words)]
    assert main(line if not words or words[0] != "SEQUENCE" else [*line, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("all_of", [False, True])
def test_the_embedded_segmenter_is_warned_of_once_before_the_scan(
    all_of: bool, sequence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise InputError("no model")

    monkeypatch.setattr("seg_zero.segmenter.loading.load_segmenter", refuse)
    place = ["--all", str(sequence.parent)] if all_of else [str(sequence)]
    assert main(["scan", *place, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("warning: the embedded SAM2 knows only flat shapes") and said.count("warning") == 1
    assert "give --segmenter, such as facebook/sam2.1-hiera-large, or --masks FOLDER" in said
    assert main(["scan", *place, "--segmenter", "facebook/sam3", "--out", str(tmp_path / "out")]) == 2
    assert "warning" not in capsys.readouterr().err


def test_the_page_loads_nothing_and_names_the_scan_safely(finished: Path) -> None:
    text = page(read_result(finished), read_summary(finished), "<b>", 500)
    assert not re.search(r"https?://|src=|@import", text.split("<script>")[0])
    assert "<b>" not in text.replace("<b>", "", 0).split("scan-info")[0]
    info = json.loads(re.findall(r'id="scan-info">(.*?)</script>', text)[0])
    assert len(info["instances"]) == read_result(finished).masks.shape[1]


@pytest.mark.parametrize("up", [[0.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.3, -5.0, 0.1]])
def test_up_is_turned_to_z(up: list[float]) -> None:
    turn = upright(up)
    assert np.allclose(turn @ turn.T, np.eye(3)) and np.linalg.det(turn) == pytest.approx(1)
    if any(up):
        assert np.allclose(turn @ up, [0, 0, np.linalg.norm(up)])


def test_a_point_of_several_instances_is_drawn_as_the_smallest() -> None:
    assert owners(np.array([[True, True], [True, False], [False, False]])).tolist() == [1, 0, -1]


def test_a_scan_without_objects_says_so(browser: Browser, sequence: Path, tmp_path: Path) -> None:
    summary, _ = run(sequence, tmp_path / "out", lambda frame: FrameMasks(np.zeros(frame.depth.shape, dtype=np.int32)))
    assert summary.instances == 0 and "no object was confirmed" in describe(summary)
    assert main(["scan", "show", str(tmp_path / "out")]) == 0
    view = browser.new_page()
    view.goto((tmp_path / "out" / "index.html").as_uri())
    assert view.locator("#status").inner_text() == "No object was confirmed by enough masks."
    assert view.locator("#instances").is_hidden()
    view.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(browser: Browser, finished: Path, tmp_path: Path, width: int) -> None:
    assert main(["scan", "show", str(finished), "--out", str(tmp_path / "page.html")]) == 0
    view = browser.new_page(viewport={"width": width, "height": 900})
    problems: list[str] = []
    view.on("pageerror", lambda error: problems.append(str(error)))
    view.on("request", lambda request: problems.append(request.url) if "page.html" not in request.url else None)
    view.goto((tmp_path / "page.html").as_uri())
    items = view.locator("#instances li")
    assert items.count() == read_result(finished).masks.shape[1]
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    shades = "new Set(new Uint32Array(document.getElementById('view').getContext('2d')"
    shades += ".getImageData(0, 0, 300, 300).data.buffer)).size"
    view.wait_for_function(f"{shades} > 20")
    items.first.locator("input").fill("the floor")
    items.first.locator("input").press("Enter")
    items.first.locator("button").click()
    assert "the floor" in view.locator("#status").inner_text()
    assert items.first.locator("button").get_attribute("aria-pressed") == "true"
    view.reload()
    assert view.locator("#instances li input").first.input_value() == "the floor"
    view.close()
    assert problems == []
