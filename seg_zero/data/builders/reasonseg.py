"""ReasonSeg's original folders to examples.

ROOT/SPLIT holds pictures and, under the same names, LabelMe-like JSON: ``text`` (a list of wordings, or one
text), ``is_sentence`` and ``shapes`` labelled "target", "ignore" or "flag". The rules are those of the published
loader: the first wording is asked; corners are cut to whole pixels; shapes are painted from large to small, so that
a small one replaces what lies under it; "flag" is skipped, a label with "ignore" in it makes pixels that count
neither way, and every other label is the target.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seg_zero.data.builders.build import Example, Source
from seg_zero.data.builders.labelme import Polygon, points_of, read_annotation
from seg_zero.data.inputs import PICTURES, upright_size
from seg_zero.errors import InputError
from seg_zero.metrics import IGNORE

TARGET = 1


@dataclass(frozen=True)
class Record:
    """A name in a split's folder, with its picture and annotation where they are there."""

    id: str
    picture: Path | None
    annotation: Path | None


def first_text(path: Path, annotation: dict[str, Any]) -> str:
    """The first wording of the question. Raises InputError if there is none."""
    text = annotation.get("text")
    if isinstance(text, list) and text:
        text = text[0]
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{path} has no 'text'; it must hold the question or a list of wordings")
    return text


def _painted(points: Polygon, size: tuple[int, int]) -> np.ndarray:
    """Boolean H x W mask of a polygon with its outline, corners cut to whole pixels, filled by OpenCV as published."""
    corners = [np.array(points, dtype=np.int32)]
    mask = np.zeros((size[1], size[0]), dtype=np.uint8)
    cv2.polylines(mask, corners, isClosed=True, color=(1,), thickness=1)
    cv2.fillPoly(mask, corners, color=(1,))
    return mask.astype(bool)


def paint(path: Path, shapes: Sequence[dict[str, Any]], size: tuple[int, int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Labels (uint8 H x W of 0, 1 = target, 255 = ignore) and the target polygons, large to small, as painted."""
    painted = []
    for shape in shapes:
        label = shape["label"].lower()
        if label == "flag":
            continue
        try:
            mask = _painted(points_of(shape), size)
        except ValueError as error:
            raise InputError(f"{path}: shape {shape['label']!r} cannot be painted: {error}") from error
        if "ignore" not in label and not mask.any():
            raise InputError(
                f"{path}: shape {shape['label']!r} lies outside the picture of {size[0]}x{size[1]}; draw it again"
            )
        painted.append((int(mask.sum()), IGNORE if "ignore" in label else TARGET, mask))
    # Of equal areas the earlier one is painted last: published is numpy's order by area, reversed.
    painted = [painted[index] for index in np.argsort([area for area, _, _ in painted])[::-1]]
    labels = np.zeros((size[1], size[0]), dtype=np.uint8)
    for _, value, mask in painted:
        labels[mask] = value
    return labels, [mask for _, value, mask in painted if value == TARGET]


def separate(target: np.ndarray, polygons: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The target's pixels as one mask per polygon; a polygon inside an earlier (larger) one is part of it."""
    outer: list[np.ndarray] = []
    for polygon in polygons:
        if polygon.any() and all((polygon & ~larger).any() for larger in outer):
            outer.append(polygon)
    return tuple(seen for seen in (polygon & target for polygon in outer) if seen.any())


def load(record: Record, objects: str = "shapes", encoding: str = "utf-8") -> Example:
    """The example of a record; ``objects`` is "shapes" or "union", ``encoding`` that of annotations that are not
    UTF-8. Raises InputError."""
    if record.picture is None:
        raise InputError(f"{record.annotation} has no picture of the same name beside it; add it or remove the file")
    if record.annotation is None:
        raise InputError(f"{record.picture} has no .json of the same name beside it; add it or remove the picture")
    annotation = read_annotation(record.annotation, encoding)
    question = first_text(record.annotation, annotation)
    labels, polygons = paint(record.annotation, annotation["shapes"], upright_size(record.picture))
    target, ignore = labels == TARGET, labels == IGNORE
    masks = separate(target, polygons) if objects == "shapes" else (target,) if target.any() else ()
    kind = "sentence" if annotation.get("is_sentence") else "phrase"
    return Example(record.id, question, record.picture, masks, ignore if ignore.any() else None, kind)


def list_records(root: Path, split: str) -> list[Record]:
    """Every name in ROOT/SPLIT that has a picture or an annotation, sorted. Raises InputError without one."""
    folder = root / split
    if not folder.is_dir():
        there = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        raise InputError(f"folder {folder} does not exist; {root} holds {', '.join(there) or 'no folders'}")
    files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    pictures = {file.stem: file for file in files if file.suffix.lower() in PICTURES}
    annotations = {file.stem: file for file in files if file.suffix.lower() == ".json"}
    if not annotations:
        raise InputError(f"folder {folder} has no .json files; it must hold pictures with a .json of the same name")
    return [
        Record(f"{split}/{name}", pictures.get(name), annotations.get(name)) for name in sorted(pictures | annotations)
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", required=True, help="folder with the folders train, val and test")
    parser.add_argument("--split", required=True, choices=("train", "val", "test"), help="folder of --root to read")
    parser.add_argument(
        "--objects",
        choices=("shapes", "union"),
        default="shapes",
        help="ground truth of a question with several target polygons. shapes (default): an object for each, since a "
        "box around far-apart pieces asks SAM2 for what lies between; union: one object, as the template 'single' "
        "needs. The mask is the same. Use --image_size original for evaluation.",
    )
    parser.add_argument(
        "--encoding", default="utf-8", help="of annotations that are not UTF-8, e.g. gb18030 (default: %(default)s)"
    )


def source(args: argparse.Namespace) -> Source[Record]:
    """The records of ``seg-zero data reasonseg``."""
    return Source(
        list_records(Path(args.root), args.split), partial(load, objects=args.objects, encoding=args.encoding)
    )
