"""Why a run failed, and whether a live one hangs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*m")
# "(Worker pid=12)", possibly several, then vLLM's "ERROR 11-21 03:32:15 [core.py:1449]".
_PREFIX = re.compile(r"^(?:\s*\([^()]*pid=[^()]*\))*\s*(?:ERROR [\d-]+ [\d:]+ \[[^\]]*\])?")
_ERROR = re.compile(r"^(?:[\w.]*\.)?(\w*(?:Error|Exception|Exit|Interrupt|OutOfMemory)\b)(?:\([^)]*\))?: *(.+)")
_NO_ERROR = re.compile(r"\b(WARNING|UserWarning|FutureWarning|DeprecationWarning|INFO)\b")
# Messages that only report that another process failed, or failed to tidy up after it.
_SECOND_HAND = (
    "RayTaskError",
    "ActorDiedError",
    "Engine core init",
    "WorkerProc init",
    "EngineDeadError",
    "Worker failed",
    "Sync replay buffer selected terminal groups",  # all answers of a question failed
)
# After these a run cannot continue, yet verl 0.9.1 waits forever for the dead part. The first one found names it.
_FATAL = {
    b"has been marked dead because": "a machine of the Ray cluster",
    b"EngineCore encountered a fatal error": "a vLLM process",
    b"EngineDeadError": "a vLLM process",
    b"died unexpectedly": "a Ray worker",
}
_TAIL_BYTES = 4_000_000
_LOOK_SECONDS = 2.0


def last_error(log: Path) -> str:
    """The last meaningful error of a log, else its last line that is neither empty nor a warning."""
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
    told = (line for line in reversed(lines) if line and line != "[state-dump]" and not _NO_ERROR.search(line))
    return next(told, "none in the log")


class Watchdog:
    """Detects a run that is alive but cannot finish: it is silent, or a part of it died.

    minutes: longest time without metrics. processes: tells the essential processes that live now.
    grace_seconds: time that a dying run has to end by itself.
    """

    def __init__(
        self, log: Path, minutes: float, processes: Callable[[], dict[int, str]] = dict, grace_seconds: float = 30
    ):
        self._log, self._offset = log, log.stat().st_size
        self._limit, self._grace = minutes * 60, grace_seconds
        self._deadline = time.monotonic() + self._limit
        self._processes, self._seen, self._next_look = processes, dict[int, str](), 0.0
        self._dead: str | None = None
        self._log_says: str | None = None

    def sign_of_life(self) -> None:
        if self._dead is None:
            self._deadline = time.monotonic() + self._limit

    def verdict(self) -> str | None:
        """Why the run should be stopped now, or None."""
        if self._dead is None:
            self._dead = self._missing() or self._fatal_message()
            if self._dead is not None:
                self._deadline = time.monotonic() + self._grace
        if time.monotonic() < self._deadline:
            return None
        if self._dead is not None:
            return f"{self._dead} died and the run waits for it"
        return f"no metrics for {self._limit / 60:g} minutes; the run hangs"

    def died(self) -> str | None:
        """What died before the run ended by itself, or None; processes that exit in an orderly end do not count."""
        self._fatal_message()
        return self._log_says and (self._dead or self._log_says)

    def _missing(self) -> str | None:
        """An essential process that was there and is gone."""
        if time.monotonic() < self._next_look:
            return None
        self._next_look = time.monotonic() + _LOOK_SECONDS
        now = self._processes()
        gone = next((pid for pid in self._seen if pid not in now), None)
        name = None if gone is None else f"{self._seen[gone]} (process {gone})"
        self._seen = now
        return name

    def _fatal_message(self) -> str | None:
        with self._log.open("rb") as stream:
            stream.seek(self._offset)
            new = stream.read()
        self._offset += max(0, new.rfind(b"\n") + 1)
        if self._log_says is None:
            self._log_says = next((name for message, name in _FATAL.items() if message in new), None)
        return self._log_says
