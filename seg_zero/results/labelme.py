"""LabelMe annotations of answers, which `seg-zero data labelme` reads back as rows.

The label is the question, so each question about a picture becomes a row; the pieces of one object share a group.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seg_zero.images import encode_png
from seg_zero.masks import mask_bounds
from seg_zero.results.outlines import outlines
from seg_zero.visualize import mask_image

if TYPE_CHECKING:
    from seg_zero.results.result import SegmentationResult

VERSION = "5.5.0"  # of LabelMe, the first that reads shapes of type mask is 5.4


def labelme_shapes(result: SegmentationResult, first_group: int = 1) -> list[dict[str, Any]]:
    """The objects as LabelMe shapes: polygons that keep an IoU of 0.99, or masks where polygons cannot.

    first_group: ``group_id`` of the first object with several pieces; others have none.
    """
    shapes, group = [], first_group
    for mask, score in result.regions:
        pieces = outlines(mask)
        if pieces is None:
            shapes.append(_mask_shape(result.question, mask, score))
            continue
        shared = group if len(pieces) > 1 else None
        group += shared is not None
        shapes += [_shape(result.question, piece, "polygon", score, shared) for piece in pieces]
    return shapes


def _shape(
    label: str, points: Sequence[Sequence[float]], kind: str, score: float, group: int | None = None
) -> dict[str, Any]:
    return {
        "label": label,
        "points": [list(point) for point in points],
        "group_id": group,
        "description": f"score {score:.2f}",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }


def _mask_shape(label: str, mask: np.ndarray, score: float) -> dict[str, Any]:
    x1, y1, x2, y2 = (round(value) for value in mask_bounds(mask))
    small = encode_png(mask_image(mask[y1:y2, x1:x2]))
    shape = _shape(label, [(float(x1), float(y1)), (float(x2 - 1), float(y2 - 1))], "mask", score)
    return {**shape, "mask": base64.b64encode(small).decode("ascii")}


def labelme_file(
    shapes: Sequence[dict[str, Any]], size: tuple[int, int], image_path: str, image_data: bytes | None = None
) -> dict[str, Any]:
    """A LabelMe annotation of a picture of (width, height).

    image_path: of the picture, relative to the annotation; image_data: the picture's file, to embed it.
    """
    return {
        "version": VERSION,
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image_path,
        "imageData": None if image_data is None else base64.b64encode(image_data).decode("ascii"),
        "imageHeight": size[1],
        "imageWidth": size[0],
    }
