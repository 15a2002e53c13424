"""Sentences and words of a policy's reasoning, in time linear in its length."""

from __future__ import annotations

import re

_CODE = re.compile(r"```.*?```", re.DOTALL)
_END = re.compile(r"[.!?]+|\n+|[\u3002\uff01\uff1f]+")  # the last are full-width marks
_MARKER = re.compile(r"[*_#>\s]*(?:\(?[0-9]{1,3}[.)]|[-*\u2022])[*_\s]*")
_LONGEST_TOKEN = 24
_SHORTEST = 3  # words
_MAX_CHARS = 65_536  # what follows is not read for sentences; it keeps the time flat
_ABBREVIATIONS = frozenset(
    ("approx", "ca", "cf", "dr", "etc", "incl", "jr", "mr", "mrs", "ms", "prof", "resp", "st", "vs")
)
# These end a sentence unless a number follows: "no. 1", but "is it red? no."
_BEFORE_NUMBERS = frozenset(("ch", "eq", "fig", "figs", "no", "nos", "nr", "obj", "p", "pp", "pt", "sec", "vol"))
_NUMBER_FOLLOWS = re.compile(r"\s?#?[0-9]")

# Scripts without spaces between words; about two characters make a word.
_IDEOGRAPHS = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_LONGEST_MEAN_WORD = 12  # characters; text with fewer spaces counts as words of this length


def sentences(text: str) -> list[str]:
    """The sentences of ``text``, lower-cased, single-spaced and without list markers; code blocks are omitted.

    A sentence ends at a full stop, exclamation or question mark or at a line's end, but not at the dot of an
    abbreviation, a decimal or a list number. Less than three words belong to what follows.
    """
    text = _CODE.sub("\n", text[:_MAX_CHARS])
    found, start = [], 0
    for mark in _END.finditer(text):
        if mark[0] == "." and _within_a_sentence(text, start, mark.start()):
            continue
        found.append(text[start : mark.start()])
        start = mark.end()
    found.append(text[start:])
    whole, fragment = [], ""
    for part in found:
        stripped = part.strip()
        marker = _MARKER.match(stripped)  # at the start alone: a search is quadratic in a long run of "#"
        plain = " ".join(stripped[marker.end() if marker else 0 :].split()).casefold()
        fragment = f"{fragment} {plain}".strip() if any(c.isalnum() for c in plain) else fragment
        if count_words(fragment) >= _SHORTEST:
            whole.append(fragment)
            fragment = ""
    return [*whole, fragment] if fragment else whole


def _within_a_sentence(text: str, start: int, dot: int) -> bool:
    """Whether the dot in place ``dot`` of a sentence that begins at ``start`` does not end it."""
    token = re.split(r"[\s(\[*_]", text[max(start, dot - _LONGEST_TOKEN) : dot])[-1].casefold()
    following = text[dot + 1 : dot + 2]
    if token.isdigit():
        before = dot - len(token) - start
        marker = before <= 8 and len(token) <= 3 and not text[start : start + before].strip(" \t\r\n(*_#>")
        return marker or following.isdigit()
    letters = token.replace(".", "")
    if "." in token or following.isalpha():  # e.g., i.e., U.S.
        return len(letters) == token.count(".") + 1 and letters.isalpha()
    if letters in _BEFORE_NUMBERS:
        return _NUMBER_FOLLOWS.match(text, dot + 1) is not None
    return letters in _ABBREVIATIONS or following.isdigit()


def count_words(text: str) -> float:
    """How many words ``text`` has; two characters of a script without spaces count as one."""
    spaced = len(text.split()) + len(_IDEOGRAPHS.findall(text)) / 2
    return max(spaced, len(text.strip()) / _LONGEST_MEAN_WORD)
