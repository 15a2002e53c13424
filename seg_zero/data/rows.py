"""The one row schema and its parquet layout, read by training, evaluation and the demo.

=============  =======================================================================
column         meaning
=============  =======================================================================
id             unique text
problem        the question
solution       ground truth of a published format, in pixels of the stored image
image          struct{bytes: encoded PNG/JPEG, path: text or null}
img_height     height in pixels of the original picture
img_width      width in pixels of the original picture
mask           struct{size: [H, W], counts: COCO RLE text} of the stored image, or null
ignore         like mask: pixels that count neither for nor against (ReasonSeg), or null
kind           what sort of question it is, for reports
=============  =======================================================================

The stored image may be the original or a stretched copy (as in the published 840 x 840 sets).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from seg_zero.answer import PromptObject, parse_solution
from seg_zero.data.masks import decode_mask
from seg_zero.errors import InputError
from seg_zero.files import whole_file
from seg_zero.images import load_image
from seg_zero.metrics import IGNORE

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("problem", pa.string()),
        ("solution", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("img_height", pa.int32()),
        ("img_width", pa.int32()),
        ("mask", pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])),
        ("ignore", pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])),
        ("kind", pa.string()),
    ]
)
REQUIRED = ("id", "problem", "solution", "image")


@dataclass(frozen=True)
class Row:
    """One question about one image, with its ground truth; the image is decoded on demand."""

    id: str
    problem: str
    solution: str
    image_bytes: bytes
    img_height: int
    img_width: int
    mask: dict[str, Any] | None = None
    kind: str = ""
    ignore: dict[str, Any] | None = None

    def image(self) -> Image.Image:
        """The stored image as RGB. Raises InputError that names the row if it is unreadable."""
        try:
            return load_image(self.image_bytes)
        except InputError as error:
            raise InputError(f"row {self.id!r}: {error}") from error

    def objects(self) -> tuple[PromptObject, ...]:
        """The ground-truth objects in pixels of the stored image."""
        try:
            return parse_solution(self.solution)
        except ValueError as error:
            raise InputError(f"row {self.id!r}: {error}") from error

    def truth(self) -> np.ndarray | None:
        """The ground-truth mask, H x W of the stored image, or None if the row has none.

        Boolean; with ignored pixels uint8 of 0, 1 and 255 (ignore).
        """
        if self.mask is None:
            return None
        mask = decode_mask(self.mask)
        if self.ignore is None:
            return mask
        return np.where(decode_mask(self.ignore) & ~mask, np.uint8(IGNORE), mask.astype(np.uint8))


def encode_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def write_rows(path: Path | str, rows: Iterable[Row]) -> int:
    """Write rows as one parquet file, atomically; returns their number."""
    path = Path(path)
    records = [
        {
            "id": row.id,
            "problem": row.problem,
            "solution": row.solution,
            "image": {"bytes": row.image_bytes, "path": None},
            "img_height": row.img_height,
            "img_width": row.img_width,
            "mask": row.mask,
            "kind": row.kind,
            "ignore": row.ignore,
        }
        for row in rows
    ]
    with whole_file(path) as partial:
        pq.write_table(pa.Table.from_pylist(records, schema=SCHEMA), partial)
    return len(records)


def _row(record: dict[str, Any], path: Path, number: int) -> Row:
    image = record["image"]
    data = image.get("bytes") if isinstance(image, dict) else image
    if data is None and isinstance(image, dict) and image.get("path"):
        file = path.parent / image["path"]
        if not file.is_file():
            raise InputError(f"row {number} of {path}: image file {file} does not exist")
        data = file.read_bytes()
    if not data:
        raise InputError(f"row {number} of {path}: column 'image' holds neither bytes nor a path")
    return Row(
        id=str(record["id"]),
        problem=record["problem"],
        solution=record["solution"],
        image_bytes=data,
        img_height=record.get("img_height") or 0,
        img_width=record.get("img_width") or 0,
        mask=record.get("mask"),
        kind=record.get("kind") or "",
        ignore=record.get("ignore"),
    )


def read_rows(path: Path | str) -> list[Row]:
    """Read a parquet file of the schema. Raises InputError for a missing file or missing columns."""
    return list(iterate_rows(path))


def iterate_rows(path: Path | str) -> Iterator[Row]:
    """Like :func:`read_rows`, one row at a time."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"data file {path} does not exist; make one with `seg-zero data synthetic --out FOLDER`")
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"data file {path} is not parquet ({error})") from error
    missing = [name for name in REQUIRED if name not in file.schema_arrow.names]
    if missing:
        raise InputError(f"data file {path} lacks the columns {missing}; it has {file.schema_arrow.names}")
    number = 0
    for batch in file.iter_batches(batch_size=64):
        for record in batch.to_pylist():
            yield _row(record, path, number)
            number += 1
