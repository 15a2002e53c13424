"""Turns on one question: what a policy is asked when it may correct its own answer. Imports no torch."""

from __future__ import annotations

from seg_zero.dialogue.references import Asked
from seg_zero.errors import InputError

MAX_TURNS = 8  # corrections of one answer


def check_turns(turns: object, option: str | None = None) -> None:
    """Raises InputError for a number of corrections that cannot be made. option: of the command that gave it, if not
    the argument ``refine``."""
    if isinstance(turns, bool) or not isinstance(turns, int) or not 0 <= turns <= MAX_TURNS:
        raise InputError(
            f"{f'{option} {turns}' if option else f'refine={turns!r}'} is not a whole number from 0 to {MAX_TURNS}"
        )


def correction_of(question: str, number: int) -> Asked:
    """The same question again, noting that instance ``number`` is the earlier answer, to be corrected if wrong."""
    return Asked(f"{question} (instance {number} is the earlier answer; correct it if it is wrong)", (number,))
