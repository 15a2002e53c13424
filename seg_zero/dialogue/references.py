"""How a question names earlier rounds: ``[REF:2]``, ``[REF:1,3]``, "instance 2"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from seg_zero.errors import InputError

HIERARCHICAL = "hierarchical"  # the relation of a part to its whole

_MARKER = re.compile(r"\[\s*REF\b([^\[\]]*)\]", re.IGNORECASE)
_OPEN_MARKER = re.compile(r"\[\s*REF\b[^\[\]]*(?=\[|$)", re.IGNORECASE)
_NUMBERS = re.compile(r"\s*:\s*\d+\s*(,\s*\d+\s*)*")
_COUNT = r"\d{1,6}(?!\d)"
_LIST = rf"{_COUNT}(?:\s*(?:,\s*and|,|and|or|&)\s*{_COUNT})*"
_INSTANCES = rf"instances?\s+({_LIST})"
_SPOKEN = re.compile(rf"\b{_INSTANCES}", re.IGNORECASE)
_EXCLUDED = re.compile(
    rf"\b(?:excluding|except(?:\s+for)?|without|but\s+not|other\s+than)\s+{_INSTANCES}", re.IGNORECASE
)
_INSIDE = re.compile(rf"\b(?:parts?\s+of|inside(?:\s+of)?|within)\s+{_INSTANCES}", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """A question with the rounds that it refers to, from 1 up, each once and in the order named.

    relation: of the target to what is referred to; ``hierarchical`` says that it is a part of it. The other names that
    data sets use (relational, positional, interactional) are kept and change nothing.
    """

    question: str
    references: tuple[int, ...] = ()
    relation: str = ""

    @property
    def excluded(self) -> tuple[int, ...]:
        """Rounds whose masks the answer must not cover: "... excluding instance 2"."""
        return _spoken(_EXCLUDED, self.question)

    @property
    def parents(self) -> tuple[int, ...]:
        """Rounds in whose masks the answer lies: all references of a part, or "... inside instance 1"."""
        if self.relation == HIERARCHICAL:
            return tuple(number for number in self.references if number not in self.excluded)
        return _spoken(_INSIDE, self.question)


def read_question(text: str, references: Sequence[int] = (), relation: str = "") -> Asked:
    """A question as it was typed, without its markers; they, its words and ``references`` name rounds.

    Raises InputError for a marker that cannot be read and for a number below 1.
    """
    if not isinstance(text, str):
        raise InputError(f"the question is a {type(text).__name__}; give text")
    named: list[int] = []
    for marker in _MARKER.finditer(text):
        if not _NUMBERS.fullmatch(marker[1]):
            raise _malformed(marker[0])
        named += [int(number) for number in re.findall(r"\d+", marker[1])]
    rest = _MARKER.sub(" ", text)
    unclosed = _OPEN_MARKER.search(rest)
    if unclosed is not None:
        raise _malformed(unclosed[0])
    question = " ".join(rest.split())
    every = [*listed(references), *named, *_spoken(_SPOKEN, question)]
    for number in every:
        if isinstance(number, bool) or not isinstance(number, Integral) or number < 1:
            raise InputError(f"reference {number!r} is no round; rounds count from 1")
    return Asked(question, tuple(dict.fromkeys(int(number) for number in every)), relation)


def listed(references: object) -> tuple[Any, ...]:
    """What a question refers to, read once. Raises InputError for what is no list, such as a bare number or mask."""
    if (
        isinstance(references, str | bytes)
        or getattr(references, "ndim", 1) != 1
        or not isinstance(references, Iterable)
    ):
        what = "None" if references is None else f"a {type(references).__name__}"
        raise InputError(f"references is {what}, no list; give a list, such as [1], or leave it out")
    return tuple(references)


def write_question(asked: Asked) -> str:
    """The line that :func:`read_question` reads; rounds that the words name already get no marker."""
    spoken = _spoken(_SPOKEN, asked.question)
    marked = [str(number) for number in asked.references if number not in spoken]
    return f"[REF:{','.join(marked)}] {asked.question}" if marked else asked.question


def _spoken(pattern: re.Pattern[str], question: str) -> tuple[int, ...]:
    found = [int(number) for match in pattern.finditer(question) for number in re.findall(r"\d+", match[1])]
    return tuple(dict.fromkeys(found))


def _malformed(marker: str) -> InputError:
    return InputError(f"the marker {marker[:40]!r} cannot be read; write [REF:1], or [REF:1,3] for several rounds")
