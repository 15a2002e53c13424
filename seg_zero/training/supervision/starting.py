"""What is printed while a run starts: minutes in which Ray, the policy and vLLM are loaded, before the first step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from seg_zero.training.run_files import RunFiles

REPEAT_SECONDS = 30.0
STARTS_VLLM = "starting vLLM"
_VLLM = "the vLLM engine"


class Starting:
    """Names the stage of a run that starts, with the seconds since its start.

    processes: the essential processes of the run, by which vLLM is known; empty for a cluster, whose processes are not
    below this one.
    """

    def __init__(
        self, files: RunFiles, processes: Callable[[], Mapping[int, str]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._files, self._processes, self._clock = files, processes, clock
        self._start = clock()
        self._shown: str | None = None
        self._shown_at = self._start
        self._done = False

    def line(self) -> str | None:
        """A line to print now: at a new stage, every ``REPEAT_SECONDS`` of one, once at the first step; else None."""
        if self._done:
            return None
        if self._files.read_phase() is not None:
            self._done = True
            return f"{self._seconds()} started; {self._files.read_phase()}".partition(", for ")[0]
        stage = self._files.read_stage()
        if stage is None:
            return None
        if _VLLM in self._processes().values():
            stage = STARTS_VLLM
        if stage == self._shown and self._clock() - self._shown_at < REPEAT_SECONDS:
            return None
        still = "still " if stage == self._shown else ""
        self._shown, self._shown_at = stage, self._clock()
        return f"{self._seconds()} {still}{stage}"

    def _seconds(self) -> str:
        return f"[{self._clock() - self._start:4.0f} s]"
