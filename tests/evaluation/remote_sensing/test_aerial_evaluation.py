"""OVRSISBench: detectron2's numbers with boundaries, resumption, in-domain folders, the table, bad input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.aerial_folders import save_labels
from helpers.radio import small_folder
from PIL import Image

from seg_zero.cli.main import main
from seg_zero.cli.remote_sensing import evaluate as command
from seg_zero.evaluation.remote_sensing.judge import judge_of, label_set
from seg_zero.evaluation.remote_sensing.published import COLUMNS, PUBLISHED
from seg_zero.evaluation.remote_sensing.table import Judgement, markdown, our_row, record, write_table_page
from seg_zero.evaluation.semantic.run import Results, evaluate_labels
from seg_zero.metrics.boundary import BoundaryConfusion, BoundaryRegions
from seg_zero.metrics.semantic import Confusion
from seg_zero.remote_sensing.data.datasets import DATASETS
from seg_zero.remote_sensing.data.folders import open_tiles


class RedClasses:
    """Takes the red channel of a pixel for its class."""

    def __init__(self) -> None:
        self.asked = 0

    def probabilities(self, image: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        self.asked += 1
        return (image[..., 0][None] == np.arange(len(labels))[:, None, None]).astype(np.float32)


def write_set(root: Path, name: str, tiles: int = 3, wrong: float = 0.2) -> Confusion:
    """A data set in its released folders, whose pictures hold the prediction in red; returns what is to be counted."""
    known = DATASETS[name]
    place = known.places["all"][0][0]
    classes, rng, total = len(known.classes), np.random.default_rng(tiles), Confusion(len(known.classes))
    for number in range(tiles):
        truth = rng.integers(0, classes - 1, (4, 6)).repeat(6, 0).repeat(6, 1)
        found = np.where(rng.random(truth.shape) < wrong, rng.integers(0, classes, truth.shape), truth)
        truth = np.where(rng.random(truth.shape) < 0.05, 255, truth)
        total.add(found, truth)
        folder = root / known.folders[0] / place.images
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat(found[..., None], 3, 2).astype(np.uint8)).save(folder / f"t{number}.png")
        save_labels(folder / place.truths / f"t{number}.png", truth.ravel(), (36, 24))
    return total


def judge(root: Path, name: str, out: Path, labeller: RedClasses | None = None) -> Results:
    data = label_set(open_tiles(name, root))
    return evaluate_labels(lambda: judge_of(labeller or RedClasses(), data.labels), data, {"method": "red"}, out)


def test_numbers_are_those_of_the_metrics(tmp_path: Path) -> None:
    wanted = write_set(tmp_path, "loveda")
    results = judge(tmp_path, "loveda", tmp_path / "out")
    assert np.array_equal(results.confusion.matrix, wanted.matrix)
    edges, regions = BoundaryConfusion(8), BoundaryRegions(8)
    tiles = open_tiles("loveda", tmp_path)
    for index in range(len(tiles)):
        edges.add(tiles.image(index)[..., 0].astype(int), tiles.labels(index).astype(int))
        regions.add(tiles.image(index)[..., 0].astype(int), tiles.labels(index).astype(int))
    assert np.array_equal(results.boundary.matrix, edges.matrix)
    assert np.array_equal(results.regions.iou(), regions.iou(), equal_nan=True)
    numbers = Judgement("loveda", results).numbers()
    assert numbers["mIoU"] == wanted.result("detectron2")["mIoU"] and 0 < numbers["boundary_IoU"] < numbers["mIoU"] < 1
    stored = json.loads((tmp_path / "out/metrics.json").read_text())
    assert stored["boundaries"]["min_IoU"] == numbers["min_IoU"]
    assert stored["classes"][7]["iou"] is None, "Agriculture is only predicted: left out by detectron2's rule"


def test_boundaries_survive_an_interruption(tmp_path: Path) -> None:
    write_set(tmp_path, "vdd")
    whole = judge(tmp_path, "vdd", tmp_path / "out")
    again = RedClasses()
    read = judge(tmp_path, "vdd", tmp_path / "out", again)
    assert again.asked == 0
    assert np.array_equal(read.boundary.matrix, whole.boundary.matrix) and read.boundaries() == whole.boundaries()
    part = tmp_path / "out/parts/00000.jsonl"
    part.write_text(part.read_text().replace('"edges"', '"egdes"'))
    judge(tmp_path, "vdd", tmp_path / "out", again)
    assert again.asked == 3, "a part without boundaries is damaged"


def test_the_mean_is_over_all_eight_or_not_given(tmp_path: Path) -> None:
    judged = []
    for number, name in enumerate(COLUMNS):
        write_set(tmp_path, name, tiles=1, wrong=0.1 * number)
        judged.append(Judgement(name, judge(tmp_path, name, tmp_path / "out" / name)))
    ours = our_row("red", ("dlrsd",), judged)
    assert ours.mean is not None
    assert ours.mean[0] == pytest.approx(np.mean([100 * one.numbers()["mIoU"] for one in judged]))
    assert ours.cells["dlrsd"] == (100.0, 100.0)
    assert our_row("red", (), judged[:7]).mean is None
    table = markdown(judged, ours)
    assert "| **red** | DLRSD |  | 100.00/100.00* |" in table and "**mean of the 8**" in table
    assert record(judged, ours)["mean"]["mIoU"] == pytest.approx(ours.mean[0] / 100)
    write_table_page(tmp_path / "index.html", judged, ours, [])
    assert "ours, trained on DLRSD" in (tmp_path / "index.html").read_text()


def test_published_rows_agree_with_their_means() -> None:
    full = [row for row in PUBLISHED if row.cells]
    assert len(full) == 10 and len(PUBLISHED) == 29
    for row in full:
        for which in (0, 1):
            mean = np.mean([row.cells[name][which] for name in COLUMNS])
            # Two means of the paper are not those of its cells: OVRS's mACC and GSNet's mIoU with CLIP L.
            assert mean == pytest.approx(row.mean[which], abs=0.13 if row.method in ("OVRS", "GSNet") else 0.006), row


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    backbone = small_folder(tmp_path / "radio") if not (tmp_path / "radio").exists() else tmp_path / "radio"
    monkeypatch.setattr(command, "load_method", lambda args, method: RedClasses())
    given = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--method", "radseg"]
    return main(["remote-sensing", "evaluate", *given, "--backbone", str(backbone), *options])


def test_the_command_judges_what_is_there_and_names_training_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    write_set(data, "dlrsd")
    write_set(data, "udd5")
    split = data / "DLRSD_split/train/imgs"
    split.mkdir(parents=True)
    (split.parent / "D2masks").mkdir()
    for name in ("t0", "t2"):
        (split / f"{name}.png").write_bytes((data / f"DLRSD/imgs/{name}.png").read_bytes())
    assert run(tmp_path, monkeypatch, "--all", "--trained_on", "dlrsd") == 0
    printed = capsys.readouterr().out
    assert "DLRSD holds pictures of the training (2 of 3): in-domain, not held out." in printed
    assert "not evaluated: isaid, loveda" in printed and "| GSNet | DLRSD | B |" in printed
    stored = json.loads((tmp_path / "out/benchmark.json").read_text())
    assert list(stored["datasets"]) == ["dlrsd", "udd5"] and stored["datasets"]["dlrsd"]["in_domain"]
    assert (tmp_path / "out/index.html").is_file() and (tmp_path / "out/udd5/report.html").is_file()
    first = (tmp_path / "out/summary.md").read_bytes()
    monkeypatch.setattr(RedClasses, "probabilities", lambda *_: pytest.fail("labelled again"))
    assert run(tmp_path, monkeypatch, "--all", "--trained_on", "dlrsd") == 0
    assert (tmp_path / "out/summary.md").read_bytes() == first


def test_bad_options_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    for options, message in (
        ((), "give one of --datasets NAME,... and --all"),
        (("--all", "--limit", "0"), "--limit 0 must be at least 1"),
        (("--datasets", "lovda"), "--datasets 'lovda' is unknown; did you mean loveda?"),
        (("--all", "--trained_on", "imagenet"), "--trained_on 'imagenet' is unknown; choose from"),
        (("--datasets", "loveda"), "holds no loveda"),
        (("--all",), "no data set below"),
        (("--all", "--model", "x"), "--model x is of --method rskt"),
        (("--all", "--method", "rskt"), "--method rskt needs --model"),
        (("--all", "--method", "rskt", "--model", "nowhere"), "--model nowhere does not exist"),
        (("--all", "--sliding"), "--sliding is of --method rskt; for --method radseg give --crop and --stride"),
    ):
        assert run(tmp_path, monkeypatch, *options) == 2, options
        assert message in capsys.readouterr().err, options
    given = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--all"]
    for options, message in (
        ((), "give --model FOLDER, a trained network, or --method radseg"),
        (("--model", ".", "--crop", "64"), "--crop 64 is of --method radseg; leave it out with --model"),
        (("--model", ".", "--refine", "sam2"), "--refine sam2 is of --method radseg"),
    ):
        assert main(["remote-sensing", "evaluate", *given, *options]) == 2, options
        assert message in capsys.readouterr().err, options
