"""A progress bar that appears with its first report."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class LateBar:
    """A bar of tqdm on standard error, drawn from the first report on: what loading says before, or why it fails,
    stands on a line of its own. ``options`` are tqdm's; use in a ``with`` block."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._bar: Any = None

    def __enter__(self) -> LateBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def move_to(self, done: int, total: int | None = None, *, old: bool = False) -> None:
        """Show ``done``, of ``total`` if that is known only now; old: what an earlier run did, without a speed."""
        if self._bar is None:
            self._bar = tqdm(file=sys.stderr, **self._options)
        if total is not None:
            self._bar.total = total
        if old:
            self._bar.initial = done
        self._bar.update(done - self._bar.n)

    def advance(self) -> None:
        """One more is done."""
        self.move_to(1 if self._bar is None else self._bar.n + 1)
