"""The dialogues that a server or a page holds for its users, with limits on rounds, age and number."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from seg_zero.dialogue.memory import MAX_ROUNDS
from seg_zero.serving.service import Refused

Talk = TypeVar("Talk")


@dataclass(frozen=True)
class DialogueLimits:
    """number: open dialogues; rounds: of one dialogue; idle: seconds after its last round when it ends."""

    number: int = 64
    rounds: int = MAX_ROUNDS
    idle: float = 1800.0


@dataclass(eq=False)
class Held(Generic[Talk]):
    """An open dialogue: its id, what its rounds need, when it was used last, and whether a round is being answered."""

    id: str
    talk: Talk
    used: float
    busy: bool = False


class Dialogues(Generic[Talk]):
    """The open dialogues of all users; each is known by a random id alone."""

    def __init__(self, limits: DialogueLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self._clock = limits, clock
        self._lock = threading.Lock()
        self._open: dict[str, Held[Talk]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, talk: Talk) -> Held[Talk]:
        """Raises Refused (429) if there are as many as there may be."""
        with self._lock:
            now = self._clock()
            ended = [one.id for one in self._open.values() if self._ended(one, now)]
            for key in ended:
                del self._open[key]
            if len(self._open) >= self.limits.number:
                idle = [one.used for one in self._open.values() if not one.busy] or [now]
                wait = math.ceil(min(idle) + self.limits.idle - now) + 1
                raise Refused(
                    429, f"the server already holds {self.limits.number} dialogues; the next ends in {wait} s", wait
                )
            made = Held(secrets.token_urlsafe(18), talk, now)
            self._open[made.id] = made
            return made

    def get(self, key: str) -> Held[Talk]:
        """Raises Refused (404) for one that there is not, or that has ended."""
        with self._lock:
            found = self._open.get(key)
            if found is None or self._ended(found, self._clock()):
                raise Refused(404, "there is no such dialogue, or it has ended; begin a new one")
            return found

    def end(self, key: str) -> None:
        with self._lock:
            self._open.pop(key, None)

    @contextmanager
    def alone(self, one: Held[Talk]) -> Iterator[None]:
        """Work on a dialogue. Raises Refused (409) if another request does."""
        with self._lock:
            if one.busy:
                raise Refused(409, "a round of this dialogue is being answered; wait for it")
            one.busy = True
        try:
            yield
        finally:
            with self._lock:
                one.busy, one.used = False, self._clock()

    def _ended(self, one: Held[Talk], now: float) -> bool:
        return not one.busy and now - one.used > self.limits.idle
