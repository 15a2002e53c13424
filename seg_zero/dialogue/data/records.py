"""Dialogues with true masks, as data: one JSON object a line, pictures beside the file.

    {"id": "...", "image": "a.jpg", "width": 640, "height": 480, "rounds": [
      {"question": "the mug", "references": [], "relation": "", "mask": RLE},
      {"question": "its handle", "references": [1], "relation": "hierarchical", "mask": RLE, "given": [RLE]}]}

``image`` is relative to the file; RLE is COCO's. ``given`` (regions of the user) is optional. Generated dialogues also
have ``rule`` in their rounds, how the target was chosen, and ``things``, all that is in the picture, each with
``words``, ``mask`` and ``part_of``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.data.inputs import find_file
from seg_zero.dialogue.memory import check_references
from seg_zero.dialogue.references import Asked, read_question
from seg_zero.errors import InputError, one_line
from seg_zero.files import read_lines, whole_file
from seg_zero.images import load_image
from seg_zero.masks import decode_mask
from seg_zero.prompting import check_characters, check_question

RLE = dict[str, Any]


@dataclass(frozen=True)
class TrueRound:
    """A question with its true mask and the regions given with it (COCO RLE)."""

    asked: Asked
    mask: RLE = field(repr=False)
    given: tuple[RLE, ...] = field(default=(), repr=False)
    rule: dict[str, Any] | None = None

    def truth(self) -> np.ndarray:
        """Boolean H x W."""
        return decode_mask(self.mask)


@dataclass(frozen=True)
class DialogueRecord:
    """A scripted dialogue; image: the path of its picture, of width x height pixels; things: records of all that
    a generated dialogue could have asked for (:class:`seg_zero.dialogue.data.relations.Thing`), () if not known."""

    id: str
    image: Path
    width: int
    height: int
    rounds: tuple[TrueRound, ...]
    things: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def picture(self) -> Image.Image:
        """The RGB picture. Raises InputError if it cannot be read or has another size."""
        picture = load_image(self.image)
        if picture.size != (self.width, self.height):
            found = f"{picture.width}x{picture.height}"
            raise InputError(
                f"image {self.image} has {found} pixels, and dialogue {self.id} {self.width}x{self.height}"
            )
        return picture


@dataclass(frozen=True)
class BadRecord:
    """A record that cannot be used: its number in the file, from 1 up, and why."""

    number: int
    id: str
    reason: str

    def line(self) -> str:
        return f"record {self.number}{f' ({self.id})' if self.id else ''}: {self.reason}"


@dataclass
class Reading:
    """What a file holds: usable dialogues, and the others by number and reason."""

    name: str
    dialogues: list[DialogueRecord] = field(default_factory=list)
    bad: list[BadRecord] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        return sum(len(item.rounds) for item in self.dialogues)

    def usable(self) -> list[DialogueRecord]:
        """All dialogues. Raises InputError with the first reason if a record cannot be used, and without any."""
        if self.bad:
            more = f", and {len(self.bad) - 1} more" if len(self.bad) > 1 else ""
            raise InputError(f"{self.name}, {self.bad[0].line()}{more}; correct or remove the record")
        if not self.dialogues:
            raise InputError(f"{self.name} holds no dialogue; check the file")
        return self.dialogues


def read_each(name: str, records: Iterable[Any], read: Callable[[int, Any], DialogueRecord]) -> Reading:
    """Read records one by one; what raises InputError, ValueError and the like becomes a BadRecord."""
    reading = Reading(name)
    for number, record in enumerate(records, start=1):
        try:
            reading.dialogues.append(read(number, record))
        except (InputError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            reading.bad.append(BadRecord(number, _id_of(record), reason_of(error)))
    return reading


def reason_of(error: Exception) -> str:
    """Why a record cannot be used, in one line; of a KeyError, what is missing."""
    return f"{error} is missing" if isinstance(error, KeyError) else one_line(error, 300)


def _id_of(record: Any) -> str:
    """The id of a JSON record, "" if it has none."""
    found = record.get("id") if isinstance(record, dict) else None
    return found if isinstance(found, str) else ""


def read_dialogues(path: Path) -> Reading:
    """The dialogues of a file. Raises InputError if it cannot be read at all."""
    try:
        lines = read_lines(path)
    except OSError as error:
        raise InputError(f"dialogues {path} cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"dialogues {path} are not UTF-8 text; is it another file?") from error
    records = [_loaded(line) for line in lines if line.strip()]
    return read_each(str(path), records, lambda _, record: _dialogue_of(record, path.parent))


def is_dialogue_file(path: Path) -> bool:
    """Whether a file's first line is a dialogue, well-formed or not."""
    if path.suffix.lower() != ".jsonl" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        record = _loaded(stream.readline())
    return isinstance(record, dict) and "rounds" in record


def write_dialogues(path: Path, dialogues: Iterable[DialogueRecord]) -> int:
    """Write a file of dialogues atomically; returns their number. Pictures are named relative to it where they can."""
    count = 0
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as stream:
        for item in dialogues:
            stream.write(json.dumps(record_of(item, path.parent), ensure_ascii=False) + "\n")
            count += 1
    return count


def record_of(item: DialogueRecord, folder: Path) -> dict[str, Any]:
    image = item.image.absolute()
    inside = image.is_relative_to(folder.absolute())
    rounds = []
    for one in item.rounds:
        entry: dict[str, Any] = {"question": one.asked.question, "references": list(one.asked.references)}
        entry |= {"relation": one.asked.relation, "mask": one.mask}
        entry |= {"given": list(one.given)} if one.given else {}
        rounds.append(entry | ({"rule": one.rule} if one.rule is not None else {}))
    where = image.relative_to(folder.absolute()).as_posix() if inside else str(image)
    known = {"things": list(item.things)} if item.things else {}
    return {"id": item.id, "image": where, "width": item.width, "height": item.height, "rounds": rounds, **known}


def checked_dialogue(name: str, image: Path, width: int, height: int, rounds: Sequence[TrueRound]) -> DialogueRecord:
    """A dialogue whose questions can be asked, whose references are earlier rounds and whose masks fit the picture.

    Raises InputError or ValueError that names the round.
    """
    check_characters(name, "its id")
    check_characters(str(image), "the name of its picture")
    if not rounds:
        raise ValueError("it has no rounds")
    found: list[bool] = []
    for number, one in enumerate(rounds, start=1):
        try:
            check_question(one.asked.question)
            check_references(one.asked, found, allow_empty=True)
            for rle in (one.mask, *one.given):
                if rle["size"] != [height, width]:
                    raise ValueError(
                        f"a mask is of {rle['size'][1]}x{rle['size'][0]} pixels, the image {width}x{height}"
                    )
            found.append(bool(one.truth().any()))
            for rle in one.given:
                decode_mask(rle)
        except (InputError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"round {number}: {one_line(error, 300)}") from error
    return DialogueRecord(name, image, width, height, tuple(rounds))


def _loaded(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return error


def _dialogue_of(record: Any, folder: Path) -> DialogueRecord:
    if isinstance(record, Exception):
        raise ValueError(f"it is not JSON ({record})")
    if not isinstance(record, dict):
        raise ValueError(f"it is a JSON {type(record).__name__}, not an object")
    width, height = record["width"], record["height"]
    if not all(type(side) is int and side > 0 for side in (width, height)):
        raise ValueError(f"width {width!r} and height {height!r} are not pixels")
    image = find_file(folder, record["image"])
    if not image.is_file():
        raise ValueError(f"image {record['image']!r} does not exist")
    rounds = []
    for number, one in enumerate(record["rounds"], start=1):
        try:
            asked = read_question(one["question"], one.get("references", []), str(one.get("relation", "")))
            rounds.append(TrueRound(asked, one["mask"], tuple(one.get("given", ())), one.get("rule")))
        except (InputError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"round {number}: {reason_of(error)}") from error
    found = checked_dialogue(str(record["id"]), image, width, height, rounds)
    things = tuple(_thing(thing, len(record["things"]), (height, width)) for thing in record.get("things", ()))
    return replace(found, things=things)


def _thing(thing: dict[str, Any], count: int, shape: tuple[int, int]) -> dict[str, Any]:
    """A thing's record, checked but for its run lengths: there may be many, and few are needed."""
    words, mask, part_of = thing["words"], thing["mask"], thing.get("part_of")
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError(f"the words {words!r} of a thing are no list of texts")
    if mask["size"] != list(shape):
        raise ValueError(f"the mask of {' '.join(words)!r} is not of the image's size")
    if part_of is not None and (type(part_of) is not int or not 0 <= part_of < count):
        raise ValueError(f"part_of {part_of!r} is no number of a thing")
    return {"words": words, "mask": mask, "part_of": part_of}
