"""A folder of LabelMe annotations to examples.

A LabelMe file holds a picture's path or its bytes and shapes: labelled polygons, rectangles, circles or masks.
Every label of a picture is a question, and the shapes with that label are its targets; a file of questions
can replace the label by a better question.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from seg_zero.data.builders.build import Example, Source
from seg_zero.data.inputs import (
    Line,
    add_split_options,
    decoded_annotation,
    find_file,
    read_table,
    split_notes,
    take_split,
    upright_size,
)
from seg_zero.data.layouts import from_base64
from seg_zero.errors import InputError
from seg_zero.masks import Polygon, paint_polygon

IGNORE_LABEL = "__ignore__"  # LabelMe's own name for "leave these pixels out"


@dataclass(frozen=True)
class Record:
    """A question about the shapes of ``file`` that carry one of ``labels``; problem: why it cannot be asked."""

    file: Path
    id: str
    question: str
    labels: tuple[str, ...]
    kind: str = ""
    problem: str = ""


def read_annotation(path: Path, encoding: str = "utf-8") -> dict[str, Any]:
    """A JSON object with a list of ``shapes``, in UTF-8 or else in ``encoding`` (see :func:`decoded_annotation`).

    Raises InputError that names the file.
    """
    try:
        text = decoded_annotation(path.read_bytes(), encoding)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); save the annotation again") from error
    shapes = value.get("shapes") if isinstance(value, dict) else None
    for shape in shapes if isinstance(shapes, list) else ():
        if isinstance(shape, dict) and type(shape.get("label")) is int:
            shape["label"] = str(shape["label"])
    if not isinstance(shapes, list) or not all(isinstance(s, dict) and isinstance(s.get("label"), str) for s in shapes):
        raise InputError(f"{path} has no list of labelled 'shapes'; remove the file if it is not an annotation")
    return value


def points_of(shape: dict[str, Any]) -> Polygon:
    """The shape's points as pairs of finite numbers. Raises ValueError."""
    points = shape.get("points")
    if not isinstance(points, list) or not points:
        raise ValueError("it has no points")
    pairs = []
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not all(_is_coordinate(v) for v in point):
            raise ValueError(f"point {point!r} is not a pair of numbers")
        pairs.append((float(point[0]), float(point[1])))
    return pairs


def _is_coordinate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def _paint_ellipse(box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    canvas = Image.new("1", size)
    ImageDraw.Draw(canvas).ellipse(box, fill=1, outline=1)
    return np.array(canvas)


def _paste_mask(shape: dict[str, Any], corner: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"], validate=True))) as stored:
            small = Image.fromarray((np.asarray(stored.convert("L")) > 0).astype(np.uint8) * 255)
    except (KeyError, TypeError, OSError, binascii.Error) as error:
        raise ValueError(f"its 'mask' is not an encoded picture ({error})") from error
    canvas = Image.new("L", size)
    canvas.paste(small, (int(corner[0]), int(corner[1])))
    return np.array(canvas) > 0


def shape_mask(shape: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Boolean H x W mask of a LabelMe shape on a picture of (width, height), painted as LabelMe does.

    Raises ValueError for a shape without an area (point, line), of an unknown type or with bad points.
    """
    kind = shape.get("shape_type") or "polygon"
    points = points_of(shape)
    wanted = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}
    if kind in ("point", "points", "line", "linestrip"):
        raise ValueError(f"a {kind} has no area; draw a polygon")
    if kind not in wanted:
        raise ValueError(f"shape_type {kind!r} is none of {', '.join(wanted)}; draw a polygon")
    if kind == "rectangle" and len(points) == 4:  # newer LabelMe writes all corners, which may be turned
        kind = "polygon"
    if (len(points) < 3) if kind == "polygon" else (len(points) != wanted[kind]):
        raise ValueError(f"a {kind} needs {wanted[kind]} points, it has {len(points)}")
    (x1, y1), (x2, y2) = points[:2]
    if kind == "polygon":
        return paint_polygon(points, size)
    if kind == "rectangle":
        return paint_polygon([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], size)
    if kind == "circle":  # centre, and a point on the rim
        radius = math.hypot(x2 - x1, y2 - y1)
        return _paint_ellipse((x1 - radius, y1 - radius, x1 + radius, y1 + radius), size)
    return _paste_mask(shape, (x1, y1), size)


def picture_of(path: Path, annotation: dict[str, Any]) -> Path | bytes:
    """The annotated picture: the embedded bytes, or the file at imagePath, or the file of that name beside the JSON."""
    data, name = annotation.get("imageData"), annotation.get("imagePath")
    if data:
        try:
            return from_base64(data)
        except (AttributeError, InputError) as error:
            raise InputError(f"{path}: imageData is not base64; save the annotation again") from error
    if not isinstance(name, str) or not name:
        raise InputError(f"{path} has neither imageData nor imagePath; save the annotation again")
    for file in (find_file(path.parent, name), path.parent / PureWindowsPath(name).name):
        if file.is_file():
            return file
    raise InputError(f"{path}: picture {name} does not exist; put it beside the annotation")


def _objects(path: Path, shapes: Sequence[dict[str, Any]], size: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """A mask per shape, or per group_id where shapes have one, in the order of the file."""
    masks: dict[object, np.ndarray] = {}
    for number, shape in enumerate(shapes):
        try:
            mask = shape_mask(shape, size)
        except ValueError as error:
            raise InputError(f"{path}: shape {shape['label']!r} cannot be used: {error}") from error
        if not mask.any():
            raise InputError(f"{path}: shape {shape['label']!r} lies outside the picture or is empty; draw it again")
        group = shape.get("group_id")
        key = ("shape", number) if group is None else ("group", shape["label"].strip(), str(group))
        masks[key] = masks[key] | mask if key in masks else mask
    return tuple(masks.values())


def load(record: Record, encoding: str = "utf-8") -> Example:
    """The example of a record. Raises InputError."""
    if record.problem:
        raise InputError(record.problem)
    annotation = read_annotation(record.file, encoding)
    picture = picture_of(record.file, annotation)
    try:
        size = upright_size(picture)
    except InputError as error:
        raise InputError(f"{record.file}: {error}") from error
    stated = (annotation.get("imageWidth"), annotation.get("imageHeight"))
    if None not in stated and stated != size:
        raise InputError(
            f"{record.file} was drawn on {stated[0]}x{stated[1]} pixels, its picture has {size[0]}x{size[1]}; "
            "put the original picture back or annotate this one"
        )
    shapes = annotation["shapes"]
    masks = _objects(record.file, [s for s in shapes if s["label"].strip() in record.labels], size)
    left_out = _objects(record.file, [s for s in shapes if s["label"].strip() == IGNORE_LABEL], size)
    ignore = np.any(left_out, axis=0) if left_out else None
    if ignore is not None:
        for mask in masks:
            ignore &= ~mask
    return Example(record.id, record.question, picture, masks, ignore, record.kind)


@dataclass(frozen=True)
class _Annotated:
    """A LabelMe file: its name below the root without ending, and its labels."""

    file: Path
    name: str
    labels: tuple[str, ...]


def _question_of(label: str) -> str:
    """The label, with spaces for the underscores of a name; one with spaces is a question and stays as it is."""
    return label if " " in label else label.replace("_", " ")


def _bad(file: Path, problem: str) -> Record:
    return Record(file, "", "", (), problem=problem)


def _asked(line: Line, annotated: _Annotated) -> Record:
    """The record of a line about one picture."""
    wanted, question = line.texts("label"), line.text("question")
    unknown = [label for label in wanted if label not in annotated.labels]
    if unknown:
        return _bad(
            annotated.file,
            f"{line.where}: {annotated.file} has no shape labelled {unknown[0]!r}, only "
            f"{', '.join(annotated.labels) or 'none'}; leave label empty if nothing matches",
        )
    if not question:
        return _bad(annotated.file, f"{line.where} has an empty question; write one or remove the line")
    name = line.text("id") if line.text("id") and line.text("image") else f"{annotated.name}:{line.number}"
    return Record(annotated.file, name, question, wanted, line.text("kind"))


def _records_of_line(
    line: Line, root: Path, files: Sequence[_Annotated], named: dict[str, list[_Annotated]]
) -> list[Record]:
    if line.problem:
        return [_bad(root, line.problem)]
    image, labels = line.text("image"), line.texts("label")
    if not image:  # every picture that has the label
        fitting = [item for item in files if labels and set(labels) <= set(item.labels)]
        if fitting:
            return [_asked(line, item) for item in fitting]
        problem = f"{line.where}: no LabelMe file below {root} has the label {line.text('label')!r}; correct it, "
        return [_bad(root, problem + "or name an image and leave label empty if nothing matches there")]
    image = image.replace("\\", "/").removeprefix("./")
    found = named.get(image) or named.get(image.rpartition(".")[0]) or []
    if len(found) == 1:
        return [_asked(line, found[0])]
    fault = "has no LabelMe file" if not found else f"fits {len(found)} LabelMe files"
    return [_bad(root, f"{line.where}: picture {image!r} {fault}; write its path below {root}")]


def list_records(root: Path, questions: Path | None = None, encoding: str = "utf-8") -> list[Record]:
    """All questions of a folder and its sub-folders: one per label and picture, or those of the questions file.

    ``encoding``: of the questions file, and of annotations that are not UTF-8. Raises InputError if there are none, or
    if the questions file cannot be read.
    """
    if not root.is_dir():
        raise InputError(f"--root {root} is not a folder; give the folder of the LabelMe files")
    records: list[Record] = []
    files: list[_Annotated] = []
    for file in sorted(root.rglob("*.json")):
        try:
            found = dict.fromkeys(shape["label"].strip() for shape in read_annotation(file, encoding)["shapes"])
        except InputError as error:
            records.append(_bad(file, str(error)))
            continue
        labels = tuple(label for label in found if label and label != IGNORE_LABEL)
        files.append(_Annotated(file, file.relative_to(root).with_suffix("").as_posix(), labels))
    if questions is None:
        records += [
            Record(item.file, f"{item.name}:{label}", _question_of(label), (label,))
            for item in files
            for label in item.labels
        ]
    else:
        named: dict[str, list[_Annotated]] = {}
        for item in files:
            for name in {item.name, item.file.stem}:
                named.setdefault(name, []).append(item)
        for line in read_table(questions, ("label", "question"), encoding):
            records += _records_of_line(line, root, files, named)
    if not records:
        raise InputError(f"--root {root} has no .json file with shapes; give the folder of the LabelMe files")
    return records


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", required=True, help="folder of LabelMe .json files; sub-folders are read too")
    parser.add_argument(
        "--questions",
        help=".csv or .jsonl with columns label, question and optional image, id, kind; without an image the question "
        "is asked of every picture that has the label (default: the label itself is the question)",
    )
    parser.add_argument(
        "--encoding",
        default="utf-8",
        help="of the questions file, and of annotations that are not UTF-8, e.g. gb18030 (default: %(default)s)",
    )
    add_split_options(parser)


def source(args: argparse.Namespace) -> Source[Record]:
    """The records of ``seg-zero data labelme``."""
    root = Path(args.root)
    records = list_records(root, Path(args.questions) if args.questions else None, args.encoding)
    ask = partial(load, encoding=args.encoding)

    def picture_of(record: Record) -> str:
        return os.path.relpath(record.file, root)

    taken = take_split(records, picture_of, args.split, args.val_fraction)
    return Source(taken, ask, split_notes(records, taken, picture_of, args.split))
