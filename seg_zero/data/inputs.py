"""Shared by the builders for users' own folders: question tables, picture files, the train/val split."""

from __future__ import annotations

import argparse
import codecs
import csv
import hashlib
import io
import json
import math
import os
import re
from argparse import SUPPRESS
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from seg_zero.errors import InputError, counted
from seg_zero.images import load_image, size_as_shown

T = TypeVar("T")
PICTURES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".heic", ".heif")


@dataclass(frozen=True)
class Line:
    """One line of a question table: column -> text (a list of texts where JSON has a list).

    where: file and line number, for messages. problem: why the line cannot be used, or "".
    """

    where: str
    number: int
    cells: dict[str, str | list[str]]
    problem: str = ""

    def text(self, column: str) -> str:
        """The cell as one text; "" if the column is missing."""
        cell = self.cells.get(column, "")
        return "; ".join(cell) if isinstance(cell, list) else cell

    def texts(self, column: str) -> tuple[str, ...]:
        """The cell as several texts: a JSON list, or text separated by semicolons."""
        cell = self.cells.get(column, "")
        parts = cell if isinstance(cell, list) else cell.split(";")
        return tuple(part.strip() for part in parts if part.strip())


# What English texts of Windows-1252 hold beside ASCII: quotes, dashes, an ellipsis, a hard space.
_TYPOGRAPHY = re.compile(rb"[\x00-\x7f]|[\x85\x91-\x94\x96\x97\xa0](?![\x80-\xff])")


def decoded_annotation(data: bytes, encoding: str = "utf-8") -> str:
    """The text of an annotation file: UTF-8 or UTF-16, else ``encoding``.

    With the default, a file that has nothing but single typographic marks of Windows-1252 is read as that, since
    published ones are so. Any other is an InputError, as most code pages make some text of any bytes.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        utf8 = encoding.lower() in ("utf-8", "utf8")
        if utf8 and _TYPOGRAPHY.sub(b"", data):
            raise InputError(
                f"byte {error.start} is not UTF-8 text; name the encoding, e.g. --encoding gb18030 or cp1252, or save "
                "the file as UTF-8"
            ) from error
        try:
            return data.decode("cp1252" if utf8 else encoding)
        except LookupError:
            raise InputError(f"--encoding {encoding!r} is unknown; try utf-8, cp1252 or gb18030") from None
        except UnicodeDecodeError as other:
            raise InputError(f"byte {other.start} is neither UTF-8 nor {encoding} text; name its encoding") from other


def _decoded(path: Path, encoding: str) -> str:
    if not path.is_file():
        raise InputError(f"questions file {path} does not exist; check the path")
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif encoding.lower() in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except LookupError as error:
        raise InputError(f"--encoding {encoding!r} is unknown; try utf-8, cp1252 or gb18030") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path} line {line} is not {encoding.removesuffix('-sig')} text; save it as UTF-8 (Excel: 'CSV UTF-8') or "
            "name its encoding, e.g. --encoding cp1252"
        ) from error


def _cell(value: Any) -> str | list[str]:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value).strip()
    raise ValueError(f"{value!r} is neither text nor a list of texts")


def _json_lines(path: Path, text: str, required: Sequence[str]) -> list[Line]:
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError(f"a JSON {type(value).__name__}, not an object")
            missing = [name for name in required if name not in value]
            if missing:
                raise ValueError(f"no {', '.join(missing)} among {', '.join(value) or 'no keys'}")
            lines.append(Line(where, number, {key: _cell(item) for key, item in value.items()}))
        except (ValueError, RecursionError) as error:
            problem = f"{where} cannot be used: {error}; write a JSON object with {', '.join(required)}"
            lines.append(Line(where, number, {}, problem))
    return lines


def _csv_lines(path: Path, text: str, required: Sequence[str]) -> list[Line]:
    head = text.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)  # a comma, or what spreadsheets of other countries write
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    header: list[str] = []
    lines, number = [], 1
    try:
        for cells in reader:
            where, first, number = f"{path} line {number}", number, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip().lower() for cell in cells]
                missing = [name for name in required if name not in header]
                if missing:
                    raise InputError(f"{where} must name the columns; {', '.join(missing)} is not in {header}")
                continue
            problem = ""
            if len(cells) != len(header):
                problem = f'{where} has {len(cells)} cells, the header {len(header)}; put "quotes" around text with '
                problem += f"a {delimiter!r} in it"
            lines.append(Line(where, first, dict(zip(header, (c.strip() for c in cells), strict=False)), problem))
    except csv.Error as error:
        raise InputError(
            f"{path} line {reader.line_num} is not CSV ({error}); put quotes around the cell and double those in it"
        ) from error
    return lines


def read_table(path: Path, required: Sequence[str], encoding: str = "utf-8") -> list[Line]:
    """The lines of a CSV (or .tsv) or JSONL file of questions, without blank ones.

    Columns other than ``required`` are optional. Raises InputError for a file that is missing, empty, of
    another kind, not text of ``encoding``, or a CSV without a required column. A single bad line is returned
    with its ``problem`` instead.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".jsonl"):
        raise InputError(f"questions file {path} is not .csv, .tsv or .jsonl; save it as one of these")
    text = _decoded(path, encoding)
    lines = _json_lines(path, text, required) if suffix == ".jsonl" else _csv_lines(path, text, required)
    if not lines:
        raise InputError(f"questions file {path} holds no question; write one per line")
    return lines


def find_file(root: Path, name: str) -> Path:
    """The file ``name``, absolute or relative to ``root``; backslashes may stand for slashes."""
    path = root / name
    return path if os.path.exists(path) or "\\" not in name else root / name.replace("\\", "/")


def upright_size(source: Path | bytes) -> tuple[int, int]:
    """Width and height of a picture once its EXIF rotation is applied, from its header alone."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return size_as_shown(image)
    except Exception:  # whatever is wrong with the file, load_image has the words for it
        return load_image(source).size


def add_split_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--split",
        choices=("all", "train", "val"),
        default="all",
        help="take all pictures, or those for training or for validation: one picture is never in both (default: all)",
    )
    parser.add_argument("--val_fraction", type=float, default=0.1, help="fraction of pictures in val (default: 0.1)")
    # The option's former name.
    parser.add_argument("--val_share", dest="val_fraction", type=float, default=SUPPRESS, help=SUPPRESS)


def take_split(records: Sequence[T], picture_of: Callable[[T], str], split: str, val_fraction: float) -> list[T]:
    """The records of ``split``, whole pictures at a time.

    Pictures are ranked by a hash of ``picture_of``; the first ``val_fraction`` of them (at least one) is val, so
    the split depends on the names alone, and train and val made from one source never share a picture.
    """
    if not 0 < val_fraction < 1:
        raise InputError(f"--val_fraction {val_fraction} is not between 0 and 1; try 0.1")
    if split == "all":
        return list(records)
    names = sorted(
        {picture_of(r) for r in records},
        key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).digest(),
    )
    if len(names) < 2:
        raise InputError(f"--split {split} needs two pictures or more, there are {len(names)}")
    held_out = set(names[: min(len(names) - 1, math.ceil(val_fraction * len(names)))])
    return [r for r in records if (picture_of(r) in held_out) == (split == "val")]


def split_notes(
    records: Sequence[T], taken: Sequence[T], picture_of: Callable[[T], str], split: str
) -> tuple[str, ...]:
    """A line on how many pictures of ``records`` :func:`take_split` took and left; none where it takes all."""
    if split == "all":
        return ()
    pictures, own = len(set(map(picture_of, records))), len(set(map(picture_of, taken)))
    rest = "held out for --split val" if split == "train" else "left to --split train"
    return (f"--split {split}: {own} of {counted(pictures, 'picture')}; {pictures - own} {rest}",)
