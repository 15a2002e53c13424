"""A folder of pictures and mask files, with a table of questions, to examples.

The table has the columns image, mask and question, and may have id and kind. A mask cell names one
file, or several separated by semicolons; each file is one object. An empty cell or an empty mask means that nothing
in the picture matches the question. docs/bring_your_own_data.md has examples.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from seg_zero.data.builders.build import Example, Source
from seg_zero.data.inputs import Line, add_split_options, find_file, read_table, split_notes, take_split, upright_size
from seg_zero.errors import InputError
from seg_zero.images import LOSSY

MASK_VALUES = {
    "binary": "0 is background and one other value the target; more values are refused",
    "objects": "every value except 0 is a separate object",
    "nonzero": "every value but 0 is the target",
    "threshold": "128 and above is the target (masks with soft edges, JPEG)",
}


@dataclass(frozen=True)
class Record:
    """One line of the table. where: its file and line; problem: why it cannot be used, or ""."""

    where: str
    id: str
    question: str
    image: Path
    masks: tuple[Path, ...]
    kind: str = ""
    problem: str = ""


def read_labels(path: Path, lossy_ok: bool) -> np.ndarray:
    """A mask file as whole numbers, H x W: grey values, palette indexes, or 0xRRGGBB where colours differ.

    Raises InputError for JPEG (unless ``lossy_ok``), transparency, palettes that do not start with black,
    and modes that hold no labels.
    """
    if not path.is_file():
        raise InputError(f"mask {path} does not exist; check the path, or leave the cell empty if nothing matches")
    try:
        with Image.open(path) as image:
            image.load()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"mask {path} cannot be read ({error}); save it again as PNG") from error
    if image.format in LOSSY and not lossy_ok:
        kind = "HEIC" if image.format == "HEIF" else "JPEG"
        raise InputError(
            f"mask {path} is a {kind}, whose edges are fuzzy; save it as PNG or use --mask_values threshold"
        )
    if image.mode in ("RGBA", "LA"):
        if np.asarray(image.getchannel("A")).min() < 255:
            raise InputError(
                f"mask {path} is partly transparent; save it as a grey PNG: black background, white target"
            )
        image = image.convert("RGB" if image.mode == "RGBA" else "L")
    if image.mode == "P":
        if image.getpalette()[:3] != [0, 0, 0]:
            raise InputError(f"mask {path} has a palette whose entry 0 is not black; save it as a grey PNG")
        return np.asarray(image).astype(np.int64)
    values = np.asarray(image)
    if image.mode == "RGB":
        red, green, blue = np.moveaxis(values.astype(np.int64), -1, 0)
        grey = (red == green).all() and (green == blue).all()
        return red if grey else red << 16 | green << 8 | blue
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise InputError(f"mask {path} has mode {image.mode}, not grey, palette or RGB; save it as a grey PNG")
    return values.astype(np.int64)


def split_labels(
    path: Path, labels: np.ndarray, mask_values: str, ignore_value: int | None
) -> tuple[list[np.ndarray], np.ndarray]:
    """Boolean masks of the objects in a label image (see :data:`MASK_VALUES`), in order of value, and ignored pixels.

    Raises InputError if the values do not fit the rule.
    """
    ignored = np.zeros(labels.shape, dtype=bool) if ignore_value is None else labels == ignore_value
    if mask_values == "threshold":
        if labels.max(initial=0) > 255:
            raise InputError(f"mask {path} is coloured or 16-bit; --mask_values threshold needs grey values 0..255")
        found = [(labels >= 128) & ~ignored]
        return [mask for mask in found if mask.any()], ignored
    values = [int(value) for value in np.unique(labels[~ignored]) if value]
    if mask_values == "binary" and len(values) > 1:
        shown = ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
        raise InputError(
            f"mask {path} has {len(values)} values besides 0 ({shown}); use --mask_values objects (one per value), "
            "nonzero (all of it is the target), threshold (soft edges) or --ignore_value N"
        )
    if mask_values == "objects":
        return [(labels == value) & ~ignored for value in values], ignored
    return ([(labels != 0) & ~ignored] if values else []), ignored


def _check_size(path: Path, labels: np.ndarray, image: Path, size: tuple[int, int]) -> None:
    height, width = labels.shape
    if (width, height) == size:
        return
    with Image.open(image) as stored:
        rotated = stored.size == (width, height)
    hint = "draw it on the picture as viewers show it, EXIF rotation applied" if rotated else "export it at that size"
    raise InputError(f"mask {path} is {width}x{height}, its picture {image} {size[0]}x{size[1]}; {hint}")


def load(record: Record, mask_values: str = "binary", ignore_value: int | None = None) -> Example:
    """The example of a record. Raises InputError that starts with the record's file and line."""
    if record.problem:
        raise InputError(record.problem)
    masks: list[np.ndarray] = []
    ignore: np.ndarray | None = None
    try:
        size = upright_size(record.image)
        for path in record.masks:
            labels = read_labels(path, lossy_ok=mask_values == "threshold")
            _check_size(path, labels, record.image, size)
            found, ignored = split_labels(path, labels, mask_values, ignore_value)
            if not found and len(record.masks) > 1:
                raise InputError(f"mask {path} is empty, though it is one of several; remove it from the cell")
            masks += found
            ignore = ignored if ignore is None else ignore | ignored
    except InputError as error:
        raise InputError(f"{record.where}: {error}") from error
    if ignore is not None:
        for mask in masks:
            ignore &= ~mask
    return Example(
        record.id,
        record.question,
        record.image,
        tuple(masks),
        None if ignore is None or not ignore.any() else ignore,
        record.kind,
    )


def _record(line: Line, root: Path, name: str) -> Record:
    question, image = line.text("question"), line.text("image")
    problem = line.problem
    if not problem and not question:
        problem = f"{line.where} has an empty question; write one or remove the line"
    if not problem and not image:
        problem = f"{line.where} has an empty image; name a picture"
    return Record(
        line.where,
        line.text("id") or f"{name}:{line.number}",
        question,
        find_file(root, image),
        tuple(find_file(root, mask) for mask in line.texts("mask")),
        line.text("kind"),
        problem,
    )


def _without_doubles(records: Sequence[Record]) -> list[Record]:
    """The records; one whose id is taken gets that as its problem."""
    first: dict[str, str] = {}
    checked = []
    for record in records:
        if not record.problem and first.setdefault(record.id, record.where) != record.where:
            problem = f"{record.where}: id {record.id!r} is taken by {first[record.id]}; every id must differ"
            record = Record(record.where, record.id, record.question, record.image, record.masks, problem=problem)
        checked.append(record)
    return checked


def list_records(questions: Path, root: Path, encoding: str = "utf-8") -> list[Record]:
    """The lines of a question table; relative paths start from ``root``. Raises InputError."""
    if not root.is_dir():
        raise InputError(f"--root {root} is not a folder; give the folder that the table's paths start from")
    lines = read_table(questions, ("image", "mask", "question"), encoding)
    return _without_doubles([_record(line, root, questions.stem) for line in lines])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--questions", required=True, help=".csv or .jsonl with columns image, mask, question (id, kind)"
    )
    parser.add_argument("--root", help="folder that relative paths start from (default: that of the questions file)")
    parser.add_argument(
        "--mask_values",
        choices=tuple(MASK_VALUES),
        default="binary",
        help="; ".join(f"{name}: {text}" for name, text in MASK_VALUES.items()) + " (default: %(default)s)",
    )
    parser.add_argument("--ignore_value", type=int, help="mask value of pixels that count neither way (default: none)")
    parser.add_argument("--encoding", default="utf-8", help="of the questions file (default: %(default)s)")
    add_split_options(parser)


def source(args: argparse.Namespace) -> Source[Record]:
    """The records of ``seg-zero data folder``."""
    questions = Path(args.questions)
    root = Path(args.root) if args.root else questions.parent
    records = list_records(questions, root, args.encoding)
    read = partial(load, mask_values=args.mask_values, ignore_value=args.ignore_value)

    def picture_of(record: Record) -> str:
        return os.path.relpath(record.image, root)

    taken = take_split(records, picture_of, args.split, args.val_fraction)
    return Source(taken, read, split_notes(records, taken, picture_of, args.split))
