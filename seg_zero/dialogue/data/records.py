"""Dialogues with true masks, as data: one JSON object a line, pictures beside the file.

    {"id": "...", "image": "a.jpg", "width": 640, "height": 480, "rounds": [
      {"question": "the mug", "references": [], "relation": "", "mask": RLE},
      {"question": "its handle", "references": [1], "relation": "hierarchical", "mask": RLE, "given": [RLE]}]}

``image`` is relative to the file; RLE is COCO's, compressed or plain. ``given`` (regions of the user) is optional.
Generated dialogues also have ``rule`` in their rounds, how the target was chosen, and ``things``, all that is in the
picture, each with ``words``, ``mask`` and ``part_of``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.data.inputs import find_file, upright_size
from seg_zero.dialogue.memory import check_references
from seg_zero.dialogue.references import Asked, read_question
from seg_zero.errors import InputError, one_line
from seg_zero.files import check_folder_place, make_folder, read_lines, whole_file
from seg_zero.images import MAX_PIXELS, load_image
from seg_zero.masks import decode_mask, encode_mask, segmentation_to_mask
from seg_zero.prompting import check_characters, check_question

RLE = dict[str, Any]
# What reading a damaged record raises.
UNUSABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, OSError)
_JSON_KINDS = {dict: "object", str: "text", int: "number", float: "number", bool: "truth value", type(None): "null"}


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
        try:
            picture = load_image(self.image)
        except InputError as error:
            raise InputError(f"dialogue {self.id}: {error}") from error
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
            raise InputError(f"{self.name} holds no dialogue that can be used; check the file")
        return self.dialogues


def read_each(name: str, records: Iterable[Any], read: Callable[[int, Any], DialogueRecord]) -> Reading:
    """Read JSON records one by one; one that is no object, or whose reading fails, becomes a BadRecord."""
    reading = Reading(name)
    for number, record in enumerate(records, start=1):
        try:
            if isinstance(record, Exception):
                raise ValueError(f"it is not JSON ({record})")
            reading.dialogues.append(read(number, object_of(record, "it")))
        except UNUSABLE as error:
            reading.bad.append(BadRecord(number, _id_of(record), reason_of(error)))
    return reading


def reason_of(error: Exception) -> str:
    """Why a record cannot be used, in one line; of a KeyError, what is missing."""
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{str(error.filename or '')[:80]}: {error.strerror}", 300)
    return f"{error} is missing" if isinstance(error, KeyError) else one_line(error, 300)


def kind_of(value: Any) -> str:
    """What a JSON value is, for messages."""
    return f"a JSON {_JSON_KINDS.get(type(value), type(value).__name__)}"


def object_of(value: Any, what: str) -> dict[str, Any]:
    """``value`` if it is a JSON object. Raises ValueError that begins with ``what``."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {kind_of(value)}, not an object")
    return value


def list_of(value: Any, what: str) -> list[Any]:
    """``value`` if it is a JSON list. Raises ValueError that begins with ``what``."""
    if not isinstance(value, list):
        raise ValueError(f"{what} is {kind_of(value)}, not a list")
    return value


def picture_of(folder: Path, name: Any) -> Path:
    """The file of a picture that a record names, relative to ``folder``. Raises ValueError if there is none."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"image is {kind_of(name) if name != '' else 'empty'}, not the name of a file")
    path = find_file(folder, name)
    if not os.path.isfile(path):
        raise ValueError(f"image {name[:80]!r} does not exist")
    return path


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


def write_dialogues(path: Path, dialogues: Iterable[DialogueRecord], drawn: Path | None = None) -> int:
    """Write a file of dialogues atomically; returns their number. Pictures are named relative to it where they can.

    drawn: a folder of new pictures (:func:`drawing`). Those of the dialogues are moved to ``NAME_images`` beside the
    file, once all is there.
    """
    names: list[str] = []
    count, final = 0, path.with_name(f"{path.stem}_images")
    with whole_file(path) as partial:
        with partial.open("w", encoding="utf-8") as stream:
            for item in dialogues:
                if drawn is not None and item.image.parent == drawn:
                    names.append(item.image.name)
                    item = replace(item, image=final / item.image.name)
                stream.write(json.dumps(record_of(item, path.parent), ensure_ascii=False) + "\n")
                count += 1
        if drawn is not None and names:
            make_folder(final)
            for name in dict.fromkeys(names):
                os.replace(drawn / name, final / name)
    return count


@contextmanager
def drawing(path: Path) -> Iterator[Path]:
    """A folder beside a file of dialogues for the new pictures that :func:`write_dialogues` moves; it goes at the end,
    so that the pictures of an earlier file stay if the work is not finished."""
    check_folder_place(path.with_name(f"{path.stem}_images"))
    folder = path.with_name(f".{path.stem}_images.{os.getpid()}.tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
        except UNUSABLE as error:
            raise ValueError(f"round {number}: {reason_of(error)}") from error
    return DialogueRecord(name, image, width, height, tuple(rounds))


def _loaded(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return error


def _dialogue_of(record: dict[str, Any], folder: Path) -> DialogueRecord:
    name, width, height = _id_text(record["id"]), record["width"], record["height"]
    if not all(type(side) is int and side > 0 for side in (width, height)):
        raise ValueError(f"width {_shown(width)} and height {_shown(height)} are not pixels")
    if width * height > MAX_PIXELS:
        raise ValueError(f"it has {width}x{height} pixels; the limit is {MAX_PIXELS:,}")
    image = picture_of(folder, record["image"])
    found = upright_size(image)
    if found != (width, height):
        raise ValueError(f"image {record['image']!r} has {found[0]}x{found[1]} pixels, the record {width}x{height}")
    rounds = []
    for number, one in enumerate(list_of(record["rounds"], "rounds"), start=1):
        try:
            rounds.append(_round_of(object_of(one, "it"), height, width))
        except UNUSABLE as error:
            raise ValueError(f"round {number}: {reason_of(error)}") from error
    things = list_of(record.get("things", []), "things")
    checked = checked_dialogue(name, image, width, height, rounds)
    return replace(
        checked, things=tuple(_thing(one, place, len(things), (height, width)) for place, one in enumerate(things))
    )


def _round_of(one: dict[str, Any], height: int, width: int) -> TrueRound:
    relation, rule = one.get("relation", ""), one.get("rule")
    if not isinstance(relation, str):
        raise ValueError(f"its relation is {kind_of(relation)}, not text")
    references = list_of(one.get("references", []), "references")
    if any(type(number) is not int for number in references):
        raise ValueError(f"references {_shown(references)} are no list of rounds")
    asked = read_question(one["question"], references, relation)
    given = [_mask_of(rle, height, width) for rle in list_of(one.get("given", []), "given")]
    mask = _mask_of(one["mask"], height, width)
    return TrueRound(asked, mask, tuple(given), None if rule is None else object_of(rule, "its rule"))


def _mask_of(value: Any, height: int, width: int) -> RLE:
    """A mask as compressed RLE of the image's size, its runs unread; plain counts, also COCO's, are compressed."""
    mask = object_of(value, "a mask")
    size, counts = mask["size"], mask["counts"]
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)):
        raise ValueError(f"the size {_shown(size)} of a mask is not [height, width]")
    if size != [height, width]:
        raise ValueError(f"a mask is of {size[1]}x{size[0]} pixels, the image {width}x{height}")
    if isinstance(counts, list):
        return encode_mask(segmentation_to_mask(mask, height, width))
    if not isinstance(counts, str) or not counts.isascii():
        raise ValueError(f"the counts {_shown(counts)} of a mask are neither a list nor compressed text")
    return mask


def _thing(value: Any, place: int, count: int, shape: tuple[int, int]) -> dict[str, Any]:
    """A thing's record, checked but for its run lengths: there may be many, and few are needed."""
    thing = object_of(value, f"thing {place}")
    words, part_of = thing["words"], thing.get("part_of")
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError(f"the words {_shown(words)} of thing {place} are no list of texts")
    try:
        mask = _mask_of(thing["mask"], *shape)
    except UNUSABLE as error:
        raise ValueError(f"thing {place} ({' '.join(words)[:40]}): {reason_of(error)}") from error
    if part_of is not None and (type(part_of) is not int or not 0 <= part_of < count):
        raise ValueError(f"part_of {_shown(part_of)} is no number of a thing, from 0")
    return {"words": words, "mask": mask, "part_of": part_of}


def _id_text(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"its id is {kind_of(value)}, not text")
    if not value.strip():
        raise ValueError("its id is empty; name the dialogue")
    return value


def _shown(value: Any) -> str:
    """A JSON value in a message."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
