"""COCO-style annotation files, and the records that the builders on top of them share."""

from __future__ import annotations

import contextlib
import json
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.data.builders.build import Example
from seg_zero.errors import InputError
from seg_zero.files import read_text
from seg_zero.images import MAX_PIXELS
from seg_zero.masks import segmentation_to_mask

Entry = dict[str, Any]


@dataclass(frozen=True)
class Instances:
    """One annotation file, read once; entries by their id, as they are in the file."""

    path: Path
    images: dict[int, Entry]
    annotations: dict[int, Entry]
    categories: dict[int, Entry]


@dataclass(frozen=True, slots=True)
class Shape:
    """An annotation's id and its COCO segmentation: polygons or run lengths."""

    annotation: int
    segmentation: Any


@dataclass(frozen=True, slots=True)
class Record:
    """One question with all that a worker needs for it; ``height`` and ``width`` of the image in pixels.

    problem: why the record cannot be used, or "".
    """

    id: str
    question: str
    image: Path
    height: int
    width: int
    targets: tuple[Shape, ...] = ()
    ignore: tuple[Shape, ...] = ()
    problem: str = ""


def _compact(entry: Entry) -> Entry:
    """Polygons as arrays of doubles: a quarter of the memory of lists, which counts in files of a gigabyte."""
    polygons = entry.get("segmentation")
    if isinstance(polygons, list):
        # A malformed one stays as it is; that is said, with the annotation's id, when it is used.
        with contextlib.suppress(TypeError, OverflowError):
            entry["segmentation"] = [array("d", polygon) for polygon in polygons]
    return entry


def read_json(path: Path, what: str, omit: str = "") -> Any:
    """The content of a JSON file, without the entries named ``omit``: a large part that nobody reads takes no memory.

    Raises InputError for a missing, unreadable or truncated file.
    """

    def kept(entry: Entry) -> Entry:
        entry.pop(omit, None)
        return _compact(entry)

    try:
        text = read_text(path)
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path} is not JSON ({error.reason}); is it another file, or compressed?") from error
    try:
        return json.loads(text, object_hook=kept)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} {path} is not whole JSON ({error}); download it again") from error


_TYPES: dict[str, tuple[type, ...]] = {
    "id": (int, str),
    "image_id": (int, str),
    "category_id": (int, str),
    "width": (int,),
    "height": (int,),
    "name": (str,),
    "segmentation": (object,),
}


def entries_by_id(path: Path, content: Entry, section: str, *keys: str) -> dict[Any, Entry]:
    """The entries of a section by id, each with ``keys``. Raises InputError if anything is missing or double."""
    entries = content.get(section)
    if not isinstance(entries, list):
        raise InputError(f"{path} has no list {section!r}; give a COCO or LVIS instances file")
    indexed: dict[Any, Entry] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"entry {number} of {section!r} in {path} is not an object; give an instances file")
        wrong = [
            key
            for key in ("id", *keys)
            if key not in entry or isinstance(entry[key], bool) or not isinstance(entry[key], _TYPES[key])
        ]
        if wrong:
            values = ", ".join(f"{key} is {entry.get(key, 'missing')!r}" for key in wrong)
            raise InputError(f"entry {number} of {section!r} in {path}: {values}; give a COCO or LVIS instances file")
        indexed[entry["id"]] = entry
    if len(indexed) < len(entries):
        raise InputError(
            f"{len(entries) - len(indexed)} ids of {section!r} in {path} appear more than once; number them anew"
        )
    return indexed


def read_instances(path: Path) -> Instances:
    """A COCO or LVIS instances file. Raises InputError if it is not one or if an id is not unique."""
    return instances_of(path, read_json(path, "annotation file"))


def instances_of(path: Path, content: Any) -> Instances:
    """What :func:`read_json` found in an instances file at ``path``; raises as :func:`read_instances`."""
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a JSON {type(content).__name__}; give a COCO or LVIS instances file")
    images = entries_by_id(path, content, "images", "width", "height")
    for number, image in images.items():
        width, height = image["width"], image["height"]
        if width < 1 or height < 1 or width * height > MAX_PIXELS:  # as a mask it would fill the memory
            raise InputError(f"image {number} in {path} is said to be {width}x{height} pixels; correct its size")
    return Instances(
        path,
        images=images,
        annotations=entries_by_id(path, content, "annotations", "image_id", "category_id", "segmentation"),
        categories=entries_by_id(path, content, "categories", "name"),
    )


def shape_of(annotation: Entry) -> Shape:
    return Shape(annotation["id"], annotation["segmentation"])


def existing_folder(option: str, folder: str) -> Path:
    """``folder`` as a path. Raises InputError if it is not a folder."""
    if not Path(folder).is_dir():
        raise InputError(f"{option} {folder} is not a folder; unpack the images and give the folder they are in")
    return Path(folder)


def kind_of(targets: int) -> str:
    """What sort of question has this number of targets: none, single or multi."""
    return ("none", "single", "multi")[min(targets, 2)]


def load_record(record: Record) -> Example:
    """The record with its masks drawn. Raises InputError that names the record and the annotation at fault."""
    if record.problem:
        raise InputError(f"example {record.id!r}: {record.problem}")

    def mask(shape: Shape) -> np.ndarray:
        try:
            return segmentation_to_mask(shape.segmentation, record.height, record.width)
        except ValueError as error:
            raise InputError(f"example {record.id!r}: annotation {shape.annotation}: {error}") from error

    ignore = np.zeros((record.height, record.width), dtype=bool)
    for shape in record.ignore:
        ignore |= mask(shape)
    return Example(
        id=record.id,
        question=record.question,
        image=record.image,
        masks=tuple(mask(shape) for shape in record.targets),
        ignore=ignore if record.ignore else None,
        kind=kind_of(len(record.targets)),
    )
