"""Checkpoints that are complete or absent, and which of them are kept.

A checkpoint is written to ``checkpoints/.writing/`` and renamed to ``checkpoints/global_step_N`` when complete;
then the file from which verl resumes is replaced. Whenever the run is killed, verl resumes from a complete
checkpoint.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_zero.errors import InputError
from seg_zero.files import read_json, write_json, write_text

TRACKER = "latest_checkpointed_iteration.txt"  # verl's name
BEST = "best.json"
METRICS = "metrics.json"  # in a checkpoint: its step's row of metrics.jsonl as far as it was known
_WRITING = ".writing"
_FULL_BYTES = 16 << 20
_STEP = re.compile(r"global_step_(\d+)")


@dataclass(frozen=True)
class Best:
    """The checkpoint with the highest value of ``metric`` so far."""

    step: int
    metric: str
    value: float


class Checkpoints:
    """The folder ``checkpoints/`` of a run.

    keep_last: how many of the newest stay (0: all). keep_best: the best one stays besides them.
    """

    def __init__(self, folder: Path, keep_last: int, keep_best: bool) -> None:
        self.folder, self.keep_last, self.keep_best = folder, keep_last, keep_best

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        names = (_STEP.fullmatch(path.name) for path in self.folder.glob("global_step_*"))
        return sorted(int(name[1]) for name in names if name is not None)

    def latest(self) -> int | None:
        """The step to resume from, or None. Raises InputError if its folder is gone: verl would start anew."""
        tracker = self.folder / TRACKER
        if not tracker.is_file():
            return None
        text = tracker.read_text().strip()
        if not text.isdigit() or int(text) not in self.steps():
            listed = ", ".join(map(str, self.steps())) or "none"
            raise InputError(
                f"{tracker} names step {text!r}, but the checkpoints here are: {listed}; write one of them into the "
                "file, or give trainer.experiment_name=NEW for a new run"
            )
        return int(text)

    def metrics(self, step: int) -> dict[str, Any] | None:
        """The metrics of a checkpoint's step, as known when it was written."""
        path = self.folder / f"global_step_{step}" / METRICS
        return read_json(path) if path.is_file() else None

    def best(self) -> Best | None:
        path = self.folder / BEST
        return Best(**read_json(path)) if path.is_file() else None

    def clean(self) -> None:
        """Remove folders that a killed run left half-written or half-removed."""
        for path in (self.folder / _WRITING, *self.folder.glob(".removing_*")):
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def writing(self, step: int) -> Iterator[Path]:
        """A folder to write ``global_step_N`` into; it counts when the block ends without an error.

        Raises InputError that says so if the disk is full, other errors as they come; earlier checkpoints are
        untouched then.
        """
        self.clean()
        partial = self.folder / _WRITING
        partial.mkdir(parents=True)
        try:
            yield partial
            final = self.folder / f"global_step_{step}"
            if final.exists():  # a resumed run does its steps again
                shutil.rmtree(final)
            os.replace(partial / final.name, final)
            write_text(self.folder / TRACKER, str(step))
        except Exception as error:
            # torch reports a write that came out short as an internal failure, without the system's reason.
            free = shutil.disk_usage(self.folder).free
            if free > _FULL_BYTES:
                raise
            whole = ", ".join(map(str, self.steps())) or "none"
            raise InputError(
                f"the disk of {self.folder} is full ({free / 2**20:.0f} MiB free), step {step} could not be saved; the "
                f"checkpoints of earlier steps are as they were ({whole}); free some space or lower "
                "checkpoints.keep_last, then rerun the same command to resume"
            ) from error
        finally:
            self.clean()
        self._remove_old()

    def note(self, step: int, metric: str, value: float) -> bool:
        """Remember the validation result of a step that has a checkpoint; whether it is the best so far."""
        best = self.best()
        if best is not None and best.metric == metric and best.step != step and best.value >= value:
            return False
        write_json(self.folder / BEST, {"step": step, "metric": metric, "value": value})
        self._remove_old()
        return True

    def is_better(self, metric: str, value: float) -> bool:
        best = self.best()
        return best is None or best.metric != metric or value > best.value

    def _remove_old(self) -> None:
        if self.keep_last < 1:
            return
        best = self.best()
        kept = set(self.steps()[-self.keep_last :])
        if self.keep_best and best is not None:
            kept.add(best.step)
        for step in set(self.steps()) - kept:
            # Renamed first: a kill while files go must not leave half a checkpoint under its name.
            doomed = self.folder / f".removing_{step}"
            os.replace(self.folder / f"global_step_{step}", doomed)
            shutil.rmtree(doomed, ignore_errors=True)
