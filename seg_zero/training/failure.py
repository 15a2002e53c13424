"""Why a run failed, and whether one that is still alive ever will end."""

from __future__ import annotations

import re
import time
from pathlib import Path

_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*m")
# "(Worker pid=12)", possibly several, then vLLM's "ERROR 11-21 03:32:15 [core.py:1449]".
_PREFIX = re.compile(r"^(?:\s*\([^()]*pid=[^()]*\))*\s*(?:ERROR [\d-]+ [\d:]+ \[[^\]]*\])?")
_ERROR = re.compile(r"^(?:[\w.]*\.)?(\w*(?:Error|Exception|Exit|Interrupt|OutOfMemory)\b)(?:\([^)]*\))?: *(.+)")
# Messages that only report that another process failed, or failed to tidy up after it.
_SECOND_HAND = (
    "RayTaskError",
    "ActorDiedError",
    "Engine core init",
    "WorkerProc init",
    "EngineDeadError",
    "Worker failed",
)
# After these a run never goes on, yet verl 0.9.1 waits for the dead part for ever.
_FATAL = (b"EngineCore encountered a fatal error", b"EngineDeadError", b"died unexpectedly")
_TAIL_BYTES = 4_000_000


def last_error(log: Path) -> str:
    """The last meaningful error of a log, else its last line that is not empty."""
    with log.open("rb") as stream:
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - _TAIL_BYTES))
        text = stream.read().decode(errors="replace")
    lines = [_PREFIX.sub("", _TERMINAL_CODES.sub("", line)).strip() for line in text.splitlines()]
    errors = [match for line in lines if (match := _ERROR.match(line)) is not None]
    own = [match for match in errors if not any(word in match[0] for word in _SECOND_HAND)]
    # verl and Ray repeat the first failure while unwinding, so of several the last first-hand one counts.
    for match in reversed(own or errors):
        return match[2] if match[1] == "InputError" else f"{match[1]}: {match[2]}"
    return next((line for line in reversed(lines) if line), "the log is empty")


class Watchdog:
    """Decides when a run that is still alive has in fact ended: it is silent, or a part of it died.

    minutes: longest time without metrics. grace_seconds: time that a dying run has to end by itself.
    """

    def __init__(self, log: Path, minutes: float, grace_seconds: float = 60):
        self._log, self._offset = log, 0
        self._limit, self._grace = minutes * 60, grace_seconds
        self._deadline = time.monotonic() + self._limit
        self._dying = False

    def sign_of_life(self) -> None:
        self._deadline, self._dying = time.monotonic() + self._limit, False

    def verdict(self) -> str | None:
        """Why the run should be stopped now, or None."""
        if not self._dying and self._fatal_message():
            self._deadline, self._dying = time.monotonic() + self._grace, True
        if time.monotonic() < self._deadline:
            return None
        if self._dying:
            return "a vLLM process died and the run waits for it"
        return f"no metrics for {self._limit / 60:g} minutes; the run hangs (a failed weight transfer does that)"

    def _fatal_message(self) -> bool:
        with self._log.open("rb") as stream:
            stream.seek(self._offset)
            new = stream.read()
        self._offset += max(0, new.rfind(b"\n") + 1)
        return any(message in new for message in _FATAL)
