"""Finds the line of a training log that says why a run failed."""

from __future__ import annotations

import re
from pathlib import Path

_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*m")
_RAY_PREFIX = re.compile(r"^\s*\([^()]*(?:pid|ip)=[^()]*\)\s*")
_ERROR = re.compile(r"^(?:[\w.]*\.)?(\w*(?:Error|Exception|Exit|Interrupt|OutOfMemory)\b)(?:\([^)]*\))?: *(.+)")
# Messages that only report that another process failed, or failed to tidy up after it.
_SECOND_HAND = ("ray.exceptions", "RayTaskError", "ActorDiedError", "Engine core initialization failed", "EngineDeadError")
_TAIL_BYTES = 4_000_000


def last_error(log: Path) -> str:
    """The last meaningful error of a log, else its last line that is not empty."""
    with log.open("rb") as stream:
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - _TAIL_BYTES))
        text = stream.read().decode(errors="replace")
    lines = [_RAY_PREFIX.sub("", _TERMINAL_CODES.sub("", line)).strip() for line in text.splitlines()]
    errors = [match for line in lines if (match := _ERROR.match(line)) is not None]
    own = [match for match in errors if not any(word in match[0] for word in _SECOND_HAND)]
    # verl and Ray repeat the first failure while unwinding, so of several the last first-hand one counts.
    for match in reversed(own or errors):
        return match[2] if match[1] == "InputError" else f"{match[1]}: {match[2]}"
    return next((line for line in reversed(lines) if line), "the log is empty")
