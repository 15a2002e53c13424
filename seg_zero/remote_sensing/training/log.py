"""What a training tells: a line in the terminal, ``metrics.jsonl``, and TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seg_zero.files import make_folder, read_lines, write_text

METRICS, BOARD = "metrics.jsonl", "tensorboard"


def duration(seconds: float) -> str:
    """As in "45 s", "12 min" and "3 h 05 min"."""
    minutes = int(seconds / 60 + 0.5)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


class TrainingLog:
    """Of the main process; others stay silent. What an earlier run logged after the step it is resumed from goes."""

    def __init__(self, out: Path, start: int, steps: int, say: Callable[[str], None], main: bool) -> None:
        self._out, self._start, self._steps, self._main = out, start, steps, main
        self._say, self._began = say, time.monotonic()
        self._writer: Any = None
        if not main:
            return
        from torch.utils.tensorboard import SummaryWriter

        make_folder(out)
        path = out / METRICS
        if path.is_file():
            rows = [line for line in read_lines(path) if _step_of(line) is not None]
            kept = [line for line in rows if (_step_of(line) or 0) <= start]
            write_text(path, "".join(f"{line}\n" for line in kept))
        self._writer = SummaryWriter(str(out / BOARD), purge_step=start + 1)

    def say(self, text: str) -> None:
        if self._main:
            self._say(text)

    def step(self, step: int, loss: float, norm: float, rate: float) -> None:
        """After a step: its loss, the norm of its gradient, and the rate of the new modules."""
        if not self._main:
            return
        seconds = (time.monotonic() - self._began) / max(1, step - self._start)
        left = seconds * (self._steps - step)
        memory = f"  {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if torch.cuda.is_available() else ""
        self._say(
            f"step {step:,}/{self._steps:,}  loss {loss:.4f}  gradient {norm:.3g}  rate {rate:.2g}  "
            f"{seconds:.2f} s a step{memory}  {duration(left)} left"
        )
        values = {"loss": loss, "gradient_norm": norm, "rate": rate, "seconds_per_step": seconds}
        self._write(step, values, "train")

    def evaluation(self, step: int, result: Mapping[str, float], picture: np.ndarray | None, seconds: float) -> None:
        """After an evaluation: its numbers (fractions) and its picture, H x W x 3 uint8."""
        if not self._main:
            return
        told = "  ".join(f"{name} {100 * value:.2f}" for name, value in result.items())
        self._say(f"step {step:,}/{self._steps:,}  {told}  ({duration(seconds)})")
        self._write(step, result, "evaluation")
        if picture is not None:
            self._writer.add_image("tile, truth, prediction", picture, step, dataformats="HWC")

    def _write(self, step: int, values: Mapping[str, float], kind: str) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)
        with (self._out / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **{f"{kind}/{name}": value for name, value in values.items()}}) + "\n")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _step_of(line: str) -> int | None:
    """None for a line that was cut short."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None
