"""Metrics of a run: from verl's file logger to ``metrics.jsonl`` and the console."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seg_zero.files import write_text

Metrics = dict[str, Any]


def read_metrics(path: Path) -> list[Metrics]:
    """The rows of a ``metrics.jsonl``; empty if the file is missing; a line cut short by a kill is skipped."""
    if not path.is_file():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


class MetricsLog:
    """Follows verl's log and keeps ``metrics.jsonl``: one object per logged step, ``{"step": n, name: value}``.

    verl overwrites its own file on every start; here the steps of earlier starts are kept, and steps that a
    resumed run repeats are replaced. Every step up to the checkpoint has its row, even if the run was killed before
    logging it: missing values are added from rows that a killed launcher left unread and from ``resumed``, the row
    in the checkpoint that the run resumes from. ``extra`` gives metrics that verl does not have.
    """

    def __init__(self, source: Path, target: Path, extra: Callable[[], Metrics] = dict, resumed: Metrics | None = None):
        self._source, self._target, self._extra = source, target, extra
        self._offset, self._appends = 0, False
        self._resumed = None if resumed is None else resumed["step"]
        missed = self._read() + ([] if resumed is None else [resumed])
        if missed:
            # What was logged counts before what a checkpoint holds, which has no validation and fewer times.
            rows = {row["step"]: row for row in reversed(missed)}
            self._write(rows | {row["step"]: row for row in read_metrics(target)})
        source.unlink(missing_ok=True)
        self._offset = 0

    def poll(self) -> list[Metrics]:
        """Steps logged since the last call, also written to ``metrics.jsonl``."""
        steps = self._read()
        if steps:
            steps[-1].update(self._extra())
            if self._appends:
                with self._target.open("a") as stream:
                    stream.write(_lines(steps))
            else:
                first = steps[0]["step"]
                rows = {row["step"]: row for row in read_metrics(self._target) if row["step"] <= first}
                if first == self._resumed:  # the validation that an earlier start did not come to
                    steps[0] = {**rows[first], **steps[0]}
                self._write(rows | {row["step"]: row for row in steps})
                self._appends = True
        return steps

    def close(self) -> None:
        """Remove verl's own file; all of it is in ``metrics.jsonl``."""
        self.poll()
        self._source.unlink(missing_ok=True)

    def _read(self) -> list[Metrics]:
        """Rows of verl's file that were not read yet; half a line waits."""
        if not self._source.is_file():
            return []
        with self._source.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [{"step": entry["step"], **entry["data"]} for entry in map(json.loads, complete.splitlines())]

    def _write(self, rows: dict[int, Metrics]) -> None:
        write_text(self._target, _lines([rows[step] for step in sorted(rows)]))


def _lines(rows: list[Metrics]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def step_line(metrics: Metrics, total_steps: int, width: int = 20) -> str:
    """One line of progress: bar, step, reward, IoU, seconds and where they went."""
    step = metrics["step"]
    done = min(width, round(width * step / max(total_steps, 1)))
    parts = [f"[{'#' * done}{'.' * (width - done)}] step {step}/{total_steps}"]
    if "reward/score/mean" in metrics:
        parts.append(f"reward {metrics['reward/score/mean']:.3f}  IoU {metrics['reward/box_iou/mean']:.3f}")
    if "timing_s/step" in metrics:
        phases = {"gen": "sampling", "old_log_prob": "log-prob", "ref": "reference", "update_actor": "update"}
        seconds = {name: metrics.get(f"timing_s/{key}", 0.0) for key, name in phases.items()}
        shares = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if value >= 0.05)
        parts.append(f"{metrics['timing_s/step']:.1f} s ({shares})")
    if "validation/gIoU" in metrics:
        numbers = "  ".join(f"{name} {metrics[f'validation/{name}']:.3f}" for name in ("gIoU", "cIoU", "format"))
        return "  ".join([*parts, f"held out: {numbers}"])
    validation = {key.split("/")[2]: value for key, value in metrics.items() if key.endswith("/mean@1")}
    if validation:
        shown = {"score": "reward", "box_iou": "IoU"}
        parts.append("held out: " + "  ".join(f"{shown[k]} {validation[k]:.3f}" for k in shown if k in validation))
    return "  ".join(parts)


def follow(log: MetricsLog, total_steps: int, show: Callable[[str], None]) -> int:
    """Show what was logged since the last call; returns how many steps that was."""
    steps = log.poll()
    for metrics in steps:
        show(step_line(metrics, total_steps))
    return len(steps)
