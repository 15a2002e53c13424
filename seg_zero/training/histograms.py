"""Histograms of every reward term at each validation, from the samples that verl writes down."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.files import write_text

BINS = 20
_NO_TERMS = frozenset(("input", "output", "gts", "step", "uid", "reward"))  # "reward" repeats "score"


def histogram(values: Sequence[float]) -> dict[str, Any]:
    """Counts over equal bins between the least and the greatest value; at least 0..1 is covered."""
    counts, edges = np.histogram(values, bins=BINS, range=(min(0.0, *values), max(1.0, *values)))
    return {"mean": float(np.mean(values)), "counts": counts.tolist(), "edges": [round(float(e), 6) for e in edges]}


def read_samples(path: Path) -> dict[str, list[float]]:
    """The values of every term over the samples of one validation file."""
    values: dict[str, list[float]] = {}
    text = path.read_text()
    for line in text[: text.rfind("\n") + 1].splitlines():  # a run that was killed may leave half a line
        for name, value in json.loads(line).items():
            if name not in _NO_TERMS and isinstance(value, int | float):
                values.setdefault(name, []).append(float(value))
    return values


class ValidationHistograms:
    """Turns ``folder/STEP.jsonl`` into lines of ``target`` and TensorBoard histograms ``validation/TERM``.

    verl 0.9.1 logs the mean of each term only.
    """

    def __init__(self, folder: Path, target: Path, tensorboard: Path) -> None:
        self._folder, self._target, self._tensorboard = folder, target, tensorboard
        self._read = {path: path.stat().st_mtime_ns for path in folder.glob("*.jsonl")}  # of earlier starts
        self._sizes: dict[Path, int] = {}
        self._lines: dict[int, str] = {}
        if target.is_file():
            self._lines = {json.loads(line)["step"]: line for line in target.read_text().splitlines()}

    def poll(self, last: bool = False) -> list[int]:
        """Steps whose files are complete since the last call; a file is when it has stopped growing.

        ``last``: the run is over, so every file is.
        """
        finished = []
        for path in self._folder.glob("*.jsonl"):
            state = path.stat()
            if not path.stem.isdigit() or self._read.get(path) == state.st_mtime_ns or not state.st_size:
                continue
            before, self._sizes[path] = self._sizes.get(path), state.st_size
            if last or before == state.st_size:
                self._read[path] = state.st_mtime_ns
                self._add(int(path.stem), read_samples(path))
                finished.append(int(path.stem))
        if finished:
            write_text(self._target, "".join(f"{self._lines[step]}\n" for step in sorted(self._lines)))
        return sorted(finished)

    def _add(self, step: int, values: dict[str, list[float]]) -> None:
        terms = {name: histogram(found) for name, found in values.items()}
        self._lines[step] = json.dumps({"step": step, "terms": terms})
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        writer = EventFileWriter(str(self._tensorboard), filename_suffix=".histograms")
        for name, found in values.items():
            summary = histogram_pb(f"validation/{name}", np.array(found), buckets=BINS)
            writer.add_event(Event(step=step, wall_time=time.time(), summary=summary))
        writer.close()
