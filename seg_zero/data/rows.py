"""The one row schema and its parquet layout, which training, evaluation and the demo read.

=============  =======================================================================
column         meaning
=============  =======================================================================
id             text that names the row
problem        the question
solution       ground truth of a published format, in pixels of the stored image
image          struct{bytes: encoded PNG/JPEG, path: text or null}
img_height     height in pixels of the original picture; 0 if not known
img_width      width in pixels of the original picture; 0 if not known
mask           struct{size: [H, W], counts: COCO RLE text} of the stored image, or null
ignore         like mask: pixels that count neither for nor against (ReasonSeg), or null
kind           kind of question, for reports
=============  =======================================================================

The stored image may be the original or a stretched copy (as in the published 840 x 840 sets).
:func:`write_rows` writes this layout; :func:`seg_zero.data.source.open_rows` reads it and the published ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from seg_zero.answer import parse_solution
from seg_zero.errors import InputError
from seg_zero.files import whole_file
from seg_zero.images import load_image
from seg_zero.masks import decode_mask
from seg_zero.metrics import IGNORE
from seg_zero.objects import PromptObject

_RLE = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("problem", pa.string()),
        ("solution", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("img_height", pa.int32()),
        ("img_width", pa.int32()),
        ("mask", _RLE),
        ("ignore", _RLE),
        ("kind", pa.string()),
    ]
)

# One random row costs one row group to read, so groups are small; encoded images do not compress further.
GROUP_ROWS = 32
GROUP_BYTES = 8 << 20
_COMPRESSION = {"problem": "snappy", "solution": "snappy", "mask.counts": "snappy", "ignore.counts": "snappy"}


def _check_rle(name: str, rle: object) -> None:
    if not isinstance(rle, dict) or not isinstance(rle.get("counts"), str):
        raise InputError(f"{name} is not COCO RLE with 'size' [H, W] and 'counts' text; use masks.encode_mask")
    size = rle.get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(v, int) and v > 0 for v in size):
        raise InputError(f"{name} has size {size!r}; it must be [height, width] in pixels")


@dataclass(frozen=True)
class Row:
    """One question about one image, with its ground truth; the image is decoded on demand.

    The fields are the columns of the schema above. Raises InputError for a value of another type; whether
    image, solution and mask can be read and agree is checked by :mod:`seg_zero.data.check`.
    """

    id: str
    problem: str
    solution: str
    image_bytes: bytes
    img_height: int
    img_width: int
    mask: dict[str, Any] | None = None
    kind: str = ""
    ignore: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for name, wanted in (("id", str), ("problem", str), ("solution", str), ("kind", str), ("image_bytes", bytes)):
            value = getattr(self, name)
            if not isinstance(value, wanted):
                raise InputError(
                    f"row {self.id!r}: {name} is {type(value).__name__}, not {wanted.__name__}; correct it"
                )
        for name in ("img_height", "img_width"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise InputError(f"row {self.id!r}: {name} is {value!r}; give whole pixels, or 0 if not known")
        for name in ("mask", "ignore"):
            if getattr(self, name) is not None:
                _check_rle(f"row {self.id!r}: {name}", getattr(self, name))

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


def _record(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "problem": row.problem,
        "solution": row.solution,
        "image": {"bytes": row.image_bytes, "path": None},
        "img_height": row.img_height,
        "img_width": row.img_width,
        "mask": row.mask,
        "ignore": row.ignore,
        "kind": row.kind,
    }


def write_rows(path: Path | str, rows: Iterable[Row]) -> int:
    """Write rows as one parquet file, atomically and in constant memory; returns their number."""
    written = 0
    with (
        whole_file(Path(path)) as partial,
        partial.open("wb") as stream,  # pyarrow takes names in UTF-8 alone
        pq.ParquetWriter(
            stream, SCHEMA, compression=_COMPRESSION, use_dictionary=["kind"], write_statistics=False
        ) as writer,
    ):
        group: list[dict[str, Any]] = []
        size = 0

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(group, schema=SCHEMA))

        for row in rows:
            group.append(_record(row))
            size += len(row.image_bytes)
            written += 1
            if len(group) == GROUP_ROWS or size >= GROUP_BYTES:
                flush()
                group, size = [], 0
        if group or not written:
            flush()
    return written
