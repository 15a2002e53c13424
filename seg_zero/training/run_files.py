"""The small files through which a run and its launcher communicate."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_zero.files import read_json, write_json, write_text


@dataclass(frozen=True)
class RunFiles:
    """Files in the folder of a run.

    stage: what the run is doing until its first step. phase.json: what it is doing from then on, and since when.
    stop: exists once the launcher was asked to end.
    """

    folder: Path

    def write_phase(self, step: int, doing: str) -> None:
        write_json(self.folder / "phase.json", {"step": step, "doing": doing, "since": time.time()})

    def read_phase(self) -> str | None:
        """One line for a person, e.g. "step 12, sampling answers (vLLM), for 31 minutes"."""
        path = self.folder / "phase.json"
        if not path.is_file():
            return None
        phase: dict[str, Any] = read_json(path)
        return f"step {phase['step']}, {phase['doing']}, for {(time.time() - phase['since']) / 60:.0f} minutes"

    def write_stage(self, doing: str) -> None:
        """Say what the run is doing before its first step, e.g. "starting Ray"."""
        write_text(self.folder / "stage", doing)

    def read_stage(self) -> str | None:
        """What the run is doing before its first step; None once that has begun, and before anything was said."""
        path = self.folder / "stage"
        return path.read_text() if path.is_file() and self.read_phase() is None else None

    def request_stop(self) -> None:
        (self.folder / "stop").touch()

    def stop_requested(self) -> bool:
        return (self.folder / "stop").exists()

    def clear(self) -> None:
        """Remove the files of an earlier start."""
        for name in ("stage", "phase.json", "stop"):
            (self.folder / name).unlink(missing_ok=True)
