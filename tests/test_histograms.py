"""Histograms of reward terms from validation files."""

from __future__ import annotations

import json
import os
from pathlib import Path

from seg_zero.training.histograms import ValidationHistograms, histogram


def sample(score: float, **terms: float) -> str:
    entry = {"input": "q", "output": "a", "gts": "[]", "step": 1, "uid": "u", "reward": score, "score": score, **terms}
    return json.dumps(entry) + "\n"


def test_counts_and_edges() -> None:
    found = histogram([0.0, 0.5, 1.0, 1.0])
    assert (found["mean"], sum(found["counts"]), found["counts"][-1], len(found["edges"])) == (0.625, 4, 2, 21)
    wide = histogram([-1.0, 7.0])
    assert (wide["edges"][0], wide["edges"][-1]) == (-1.0, 7.0)


def test_a_file_counts_when_it_stops_growing(tmp_path: Path) -> None:
    folder, target, board = tmp_path / "validation", tmp_path / "histograms.jsonl", tmp_path / "tensorboard"
    folder.mkdir()
    old = folder / "5.jsonl"
    old.write_text(sample(1.0))
    os.utime(old, (1, 1))  # of an earlier start
    target.write_text('{"step": 5, "terms": {"kept": 1}}\n')
    histograms = ValidationHistograms(folder, target, board)
    file = folder / "10.jsonl"
    file.write_text(sample(0.0, iou=0.0))
    assert histograms.poll() == []
    with file.open("a") as stream:
        stream.write(sample(1.0, iou=1.0))
    assert histograms.poll() == []
    assert histograms.poll() == [10]
    assert histograms.poll() == []
    (folder / "20.jsonl").write_text(sample(0.5, iou=0.5))
    assert histograms.poll(last=True) == [20]
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 20]
    assert set(lines[1]["terms"]) == {"score", "iou"}
    assert lines[1]["terms"]["iou"]["mean"] == 0.5 and sum(lines[1]["terms"]["iou"]["counts"]) == 2


def test_tensorboard_reads_them(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    (tmp_path / "validation").mkdir()
    histograms = ValidationHistograms(tmp_path / "validation", tmp_path / "h.jsonl", tmp_path / "board")
    (tmp_path / "validation" / "3.jsonl").write_text(sample(0.25) + sample(0.75))
    histograms.poll(last=True)
    (file,) = (tmp_path / "board").glob("events.out.tfevents.*")
    events = [event for event in EventFileLoader(str(file)).Load() if event.HasField("summary")]
    assert [(event.step, event.summary.value[0].tag) for event in events] == [(3, "validation/score")]
    assert events[0].summary.value[0].tensor.tensor_shape.dim[0].size == 20


def test_half_a_line_of_a_killed_run_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "validation").mkdir()
    histograms = ValidationHistograms(tmp_path / "validation", tmp_path / "h.jsonl", tmp_path / "board")
    (tmp_path / "validation" / "3.jsonl").write_text(sample(1.0) + '{"score": 0.')
    assert histograms.poll(last=True) == [3]
    assert sum(json.loads((tmp_path / "h.jsonl").read_text())["terms"]["score"]["counts"]) == 1
