"""The markers of MRSeg's conversations (SegLLM, arXiv 2410.18923): pictures and masks inside of turns.

    [IMAGE256:IMAGE]                                         the picture
    [MASK-ENCODE:IMAGE|SET|ID]  [BOX-ENCODE:IMAGE|SET|ID]    an earlier mask, and its box
    [MASK-DECODE:IMAGE|SET|ID]                               the answer's mask
    [MASK-DECODE:RELATION:REFERENCE:ID:IMAGE:SET]            the same, with what it relates to
    [MASK-DECODE:RELATION:REFERENCE:REFERENCE:ID:IMAGE:SET]

An id is a whole number, a text with _ or -, or empty (also "none"): the picture's only mask.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

IMAGE, MASK_ENCODE, BOX_ENCODE, MASK_DECODE = "IMAGE256", "MASK-ENCODE", "BOX-ENCODE", "MASK-DECODE"
KINDS = (IMAGE, MASK_ENCODE, BOX_ENCODE, MASK_DECODE)
NO_RELATION = "none"
INFERENCE, NULL = "INFERENCE", "NULL"  # set and id of a mask that is yet to be made
MarkerId = int | str | None

_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_NAMES = "|".join(KINDS)
_KIND = re.compile(_NAMES, re.IGNORECASE)
_LOOSE = re.compile(rf"\[[^\[\]]{{0,60}}?(?:{_NAMES})[^\[\]]{{0,60}}|(?:{_NAMES})\s*:[^\[\]]{{0,60}}", re.IGNORECASE)
_COCO = re.compile(r"coco_(?:train|val|test)\d{4}_")
_EMPTY_IDS = ("", "none", "'")
_TEXT_ID = re.compile(r"[^\s|:\[\]]*[_-][^\s|:\[\]]*")


@dataclass(frozen=True)
class Marker:
    """One marker. kind: one of KINDS; references: ids of the masks that a decoded one relates to."""

    kind: str
    image: str
    dataset: str = ""
    id: MarkerId = None
    relation: str = NO_RELATION
    references: tuple[int | str, ...] = ()
    colons: bool = False

    def write(self) -> str:
        """The marker as text, which :func:`read_markers` reads back."""
        if self.kind == IMAGE:
            return f"[{IMAGE}:{self.image}]"
        number = "" if self.id is None else str(self.id)
        if not self.colons:
            return f"[{self.kind}:{self.image}|{self.dataset}|{number}]"
        related = ":".join(str(one) for one in self.references) or NO_RELATION
        return f"[{self.kind}:{self.relation}:{related}:{number or NO_RELATION}:{self.image}:{self.dataset}]"


def read_markers(text: str) -> list[str | Marker]:
    """A turn as pieces of text and markers, in order. Other brackets are text.

    Raises ValueError, which quotes it, for a bracket that names a kind and is no marker, and for a marker that lacks a
    bracket.
    """
    parts: list[str | Marker] = []
    rest = 0
    for bracket in _BRACKET.finditer(text):
        if not _KIND.search(bracket[1]):
            continue
        try:
            marker = _marker(bracket[1])
        except ValueError as error:
            raise ValueError(f"the marker {bracket[0]!r} cannot be read: {error}") from error
        parts += _text(text[rest : bracket.start()])
        parts.append(marker)
        rest = bracket.end()
    return parts + _text(text[rest:])


def write_markers(parts: list[str | Marker]) -> str:
    return "".join(part if isinstance(part, str) else part.write() for part in parts)


def same_picture(one: str, other: str) -> bool:
    """Whether two names are of one picture: sets keep theirs in folders and formats of their own, and COCO's editions
    of 2014 and 2017 add different beginnings to a picture's number."""
    return _picture(one) == _picture(other)


def _picture(name: str) -> str:
    return _COCO.sub("", PurePosixPath(name.replace("\\", "/")).stem.lower())


def _text(piece: str) -> list[str | Marker]:
    """What is between markers, if anything. Raises ValueError if a marker without a bracket is in it."""
    loose = _LOOSE.search(piece)
    if loose is not None:
        missing = "closed" if loose[0].startswith("[") else "opened"
        raise ValueError(f"the marker {loose[0]!r} cannot be read: it is not {missing}")
    return [piece] if piece else []


def _marker(inside: str) -> Marker:
    kind, colon, content = inside.partition(":")
    if not colon or kind not in KINDS:
        raise ValueError(f"it does not begin with one of {', '.join(f'{kind}:' for kind in KINDS)}")
    if kind == IMAGE:
        if not content:
            raise ValueError("it names no picture")
        return Marker(kind, content)
    if "|" in content:
        pieces = content.split("|")
        if len(pieces) != 3:
            raise ValueError(f"it has {len(pieces)} parts between |, not picture, set and id")
        image, dataset, number = pieces
        return _complete(Marker(kind, image, dataset, _id(number, dataset)))
    pieces = content.split(":")
    if kind != MASK_DECODE or len(pieces) not in (5, 6):
        raise ValueError(f"it has {len(pieces) - 1} colons; a decoded mask has 0, 4 or 5, and others have none")
    relation, *related, number, image, dataset = pieces
    references = [one for one in (_id(piece, dataset) for piece in related) if one is not None]
    marker = Marker(kind, image, dataset, _id(number, dataset), relation or NO_RELATION, tuple(references), True)
    return _complete(marker)


def _complete(marker: Marker) -> Marker:
    if not marker.image or not marker.dataset:
        raise ValueError("it names no picture or no set")
    return marker


def _id(text: str, dataset: str) -> MarkerId:
    if text in _EMPTY_IDS:
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    if _TEXT_ID.fullmatch(text) or (text == NULL and dataset == INFERENCE):
        return text
    raise ValueError(f"the id {text!r} is neither a whole number nor a text with _ or -")
