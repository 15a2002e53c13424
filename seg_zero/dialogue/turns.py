"""Turns on one question: what a policy is asked when it may correct its own answer. Imports no torch."""

from __future__ import annotations

from seg_zero.dialogue.references import Asked
from seg_zero.errors import InputError

MAX_CORRECTIONS = 8  # corrections of one answer


def check_corrections(count: object, given: str) -> None:
    """Raises InputError for a number of corrections that cannot be made. given: what the caller wrote before the
    number, such as ``--refine ``."""
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_CORRECTIONS:
        raise InputError(f"{given}{count!r} is not a whole number from 0 to {MAX_CORRECTIONS}")


def correction_of(question: str, number: int) -> Asked:
    """The same question again, after the note that instance ``number`` is the earlier answer, to be corrected if wrong.

    The note comes first: so the prompt ends as that of the plain question, which policies are trained for.
    """
    return Asked(f"(instance {number} is the earlier answer; correct it if it is wrong) {question}", (number,))
