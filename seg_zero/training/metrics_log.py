"""Metrics of a run: from verl's file logger to ``metrics.jsonl`` and the console."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Metrics = dict[str, Any]


class MetricsLog:
    """Follows verl's log and keeps ``metrics.jsonl``: one object per logged step, ``{"step": n, name: value}``.

    verl starts its own file anew on every start; here the steps of earlier starts are kept, and those
    that a resumed run does again are replaced. ``extra`` gives metrics that verl does not know.
    """

    def __init__(self, source: Path, target: Path, extra: Callable[[], Metrics] = dict):
        self._source, self._target, self._extra = source, target, extra
        self._offset = 0
        source.unlink(missing_ok=True)

    def poll(self) -> list[Metrics]:
        """Steps logged since the last call, also appended to ``metrics.jsonl``."""
        if not self._source.is_file():
            return []
        with self._source.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        complete = data[: data.rfind(b"\n") + 1]
        first_poll = self._offset == 0
        self._offset += len(complete)
        steps = [{"step": entry["step"], **entry["data"]} for entry in map(json.loads, complete.splitlines())]
        if steps:
            steps[-1].update(self._extra())
            earlier = self._before(steps[0]["step"]) if first_poll else None
            lines = "".join(json.dumps(step) + "\n" for step in steps)
            if earlier is not None:
                self._target.write_text(earlier + lines)
            else:
                with self._target.open("a") as stream_out:
                    stream_out.write(lines)
        return steps

    def close(self) -> None:
        """Remove verl's own file; all of it is in ``metrics.jsonl``."""
        self.poll()
        self._source.unlink(missing_ok=True)

    def _before(self, step: int) -> str:
        if not self._target.is_file():
            return ""
        lines = self._target.read_text().splitlines(keepends=True)
        return "".join(line for line in lines if json.loads(line)["step"] < step)


def step_line(metrics: Metrics, total_steps: int, width: int = 20) -> str:
    """One line of progress: bar, step, reward, IoU, seconds and where they went."""
    step = metrics["step"]
    done = min(width, round(width * step / max(total_steps, 1)))
    parts = [f"[{'#' * done}{'.' * (width - done)}] step {step}/{total_steps}"]
    if "reward/score/mean" in metrics:
        parts.append(f"reward {metrics['reward/score/mean']:.3f}  IoU {metrics['reward/box_iou/mean']:.3f}")
    if "timing_s/step" in metrics:
        phases = {"gen": "sampling", "old_log_prob": "log-prob", "ref": "reference", "update_actor": "update"}
        seconds = {name: metrics[f"timing_s/{key}"] for key, name in phases.items() if f"timing_s/{key}" in metrics}
        shares = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
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
