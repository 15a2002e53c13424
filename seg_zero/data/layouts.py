"""Published column layouts to :class:`~seg_zero.data.rows.Row`.

Two families are in use. Training sets: id, problem, solution, image, img_height, img_width. Evaluation sets:
image, text, mask (nested lists of booleans), image_id, ann_id, img_height, img_width. Any mixture that has a
question, an image and either a solution or a mask is read.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.answer import write_solution_single
from seg_zero.data.inputs import find_file
from seg_zero.data.rows import Row
from seg_zero.errors import InputError
from seg_zero.masks import decode_mask, encode_mask, mask_to_prompt_object
from seg_zero.metrics import IGNORE

# What a row needs, and the columns that may hold it, best first.
_NEEDED = {
    "id": ("id", "image_id"),
    "problem": ("problem", "text"),
    "image": ("image",),
    "solution": ("solution", "mask"),
}
_OPTIONAL = ("ann_id", "img_height", "img_width", "mask", "ignore", "kind")
# How PNG, JPEG, WebP and GIF files begin in base64.
_BASE64_STARTS = ("iVBORw0KGgo", "/9j/", "UklGR", "R0lGOD")


def wanted_columns(columns: Iterable[str]) -> list[str]:
    """The columns to read out of those present. Raises InputError that names what is missing."""
    present = list(columns)
    chosen, missing = [], []
    for names in _NEEDED.values():
        found = [name for name in names if name in present]
        chosen += found[:1]
        if not found:
            missing.append(" or ".join(names))
    if missing:
        raise InputError(f"lacks the columns {', '.join(missing)}; it has {', '.join(present)} (see docs/data.md)")
    chosen += [name for name in _OPTIONAL if name in present]
    if "id" in chosen and "ann_id" in chosen:
        chosen.remove("ann_id")
    return list(dict.fromkeys(chosen))


def row_id(record: Mapping[str, Any]) -> str:
    """The id, made of image_id and ann_id where there is none."""
    if "id" in record:
        value = record["id"]
    else:
        value = record.get("image_id")
        if value is not None and record.get("ann_id") is not None:
            value = f"{value}_{record['ann_id']}"
    if value is None:
        raise InputError("the id is null; give every row one")
    return str(value)


def _image_bytes(value: object, folder: Path | None) -> bytes:
    """Encoded bytes from bytes, {bytes, path}, base64 text or a path (relative to ``folder``)."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes) and value:
        return value
    if not isinstance(value, str) or not value:
        raise InputError("column 'image' holds neither bytes nor a path; store the encoded image")
    if value.startswith(("data:", *_BASE64_STARTS)):
        return from_base64(value.partition(",")[2] if value.startswith("data:") else value)
    file = Path(value).expanduser() if folder is None else find_file(folder, value)
    try:
        return file.read_bytes()
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise InputError(f"image file {str(file)[:200]} {reason}; paths are relative to the data file") from error


def from_base64(text: str) -> bytes:
    """The bytes of base64 text, which may have line breaks. Raises InputError for anything else."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise InputError(f"the image is broken base64 ({error}); encode it again") from error


def _grid(value: Any, name: str) -> np.ndarray:
    try:
        grid = np.asarray(value)
    except ValueError:  # lists of unequal length
        grid = np.empty(0)
    if grid.ndim != 2 or grid.size == 0 or grid.dtype.kind not in "bui":
        raise InputError(f"column {name!r} is neither COCO RLE nor H x W nested lists of booleans of equal length")
    return grid


def _masks(record: Mapping[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Mask and ignored pixels as COCO RLE. Nested lists hold booleans, or 0, 1 and 255 (ignored)."""
    mask, ignore = record.get("mask"), record.get("ignore")
    if mask is None or isinstance(mask, dict):
        return mask, ignore
    grid = _grid(mask, "mask")
    if grid.dtype.kind == "b":
        return encode_mask(grid), ignore
    values = set(np.unique(grid).tolist())
    if not values <= {0, 1, IGNORE} or (IGNORE in values and 1 not in values):
        raise InputError(
            f"column 'mask' holds the values {sorted(values)[:5]}; write booleans, or 0, 1 and {IGNORE} (ignored)"
        )
    return encode_mask(grid == 1), encode_mask(grid == IGNORE) if IGNORE in values else ignore


def _solution(record: Mapping[str, Any], mask: dict[str, Any] | None) -> Any:
    """The stored solution as text, or one made from the mask: its box and two points, [] if it is empty."""
    stored = record.get("solution")
    if stored is not None:
        return stored if isinstance(stored, str) else json.dumps(stored, separators=(",", ":"))
    if mask is None:
        raise InputError("the row has neither a solution nor a mask; give it one")
    pixels = decode_mask(mask)
    return write_solution_single(mask_to_prompt_object(pixels)) if pixels.any() else "[]"


def _pixels(value: Any) -> Any:
    return 0 if value is None else int(value) if isinstance(value, float) and value.is_integer() else value


def row_of(record: Mapping[str, Any], folder: Path | None) -> Row:
    """One record of any layout as a row; image paths are relative to ``folder``.

    Raises InputError that says what is wrong with it.
    """
    mask, ignore = _masks(record)
    return Row(
        id=row_id(record),
        problem=record["problem"] if "problem" in record else record.get("text"),  # type: ignore[arg-type]
        solution=_solution(record, mask),
        image_bytes=_image_bytes(record.get("image"), folder),
        img_height=_pixels(record.get("img_height")),
        img_width=_pixels(record.get("img_width")),
        mask=mask,
        kind=record.get("kind") or "",
        ignore=ignore,
    )
