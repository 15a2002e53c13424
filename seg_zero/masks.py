"""Masks to prompts and to COCO run-length encoding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco
from scipy.ndimage import distance_transform_edt

from seg_zero.objects import Box, Point, PromptObject

PointRule = Literal["inscribed", "published"]
POINT_RULES: tuple[PointRule, ...] = get_args(PointRule)
Polygon = list[tuple[float, float]]
OUTSIDE = 0.02  # of the side: how far a polygon may reach out of its image


def mask_to_prompt_object(mask: np.ndarray, points: PointRule = "inscribed") -> PromptObject:
    """Box and two points of a boolean H x W mask, in its pixels.

    The box holds the extreme pixels (inclusive). Point 1 is the maximum of the distance transform (the
    centre of the largest inscribed circle); point 2 is the maximum within the half of the mask that is
    farther from point 1. Of equal maxima, the first in reading order counts. Raises ValueError for an empty mask.

    ``points="published"`` follows the notebook behind the published training sets. There the edge of the image
    does not bound the mask, so an object cut off by it has its points near or on the edge. And the farther
    half is what lies strictly beyond the median distance, not what lies at least as far. Where nothing lies beyond it
    (masks of a few pixels), both rules take the pixels at that distance.
    """
    ys, xs = np.nonzero(mask)
    if len(xs) == 0:
        raise ValueError("the mask is empty: it has no box and no points")
    x1, x2, y1, y2 = int(xs.min()), int(xs.max()), int(ys.min()), int(ys.max())
    if points == "published":
        # The nearest pixel off the mask is never beyond the box's margin of one pixel, which ends at the image's edge.
        left, top = max(x1 - 1, 0), max(y1 - 1, 0)
        depth = distance_transform_edt(mask[top : y2 + 2, left : x2 + 2])[ys - top, xs - left]
    else:
        # A border of zeros makes the crop's edge count as outside, at the image's edge too.
        depth = distance_transform_edt(np.pad(mask[y1 : y2 + 1, x1 : x2 + 1], 1))[1:-1, 1:-1][ys - y1, xs - x1]
    first = int(depth.argmax())
    distance = np.hypot(xs - xs[first], ys - ys[first])
    median = np.median(distance)
    beyond = distance > median if points == "published" else distance >= median
    far = np.nonzero(beyond if beyond.any() else distance >= median)[0]
    second = int(far[depth[far].argmax()])
    found: tuple[Point, ...] = tuple((float(xs[i]), float(ys[i])) for i in (first, second))
    return PromptObject((float(x1), float(y1), float(x2), float(y2)), found)


def touches_mask(x: float, y: float, mask: np.ndarray, slack: int = 1) -> bool:
    """Whether a point, in pixels of a boolean H x W mask, lies in the mask or at most ``slack`` pixels beside it.

    The pixel of a point is (floor(x), floor(y)), off the image too: with a slack of 1 a point at x = -0.5 touches
    column 0, one at x = -1.5 nothing. NaN and infinity touch nothing.
    """
    height, width = mask.shape
    if not (-slack <= x < width + slack and -slack <= y < height + slack):
        return False
    column, row = math.floor(x), math.floor(y)
    return bool(mask[max(row - slack, 0) : row + slack + 1, max(column - slack, 0) : column + slack + 1].any())


def paint_polygon(points: Polygon, size: tuple[int, int]) -> np.ndarray:
    """Boolean H x W mask of a polygon with its outline, on a picture of (width, height); what is outside is cut."""
    canvas = Image.new("1", size)
    draw = ImageDraw.Draw(canvas)
    if len(points) == 1:
        draw.point(points, fill=1)
    elif len(points) == 2:
        draw.line(points, fill=1)
    else:
        draw.polygon(points, fill=1, outline=1)
    return np.array(canvas)


def mask_bounds(mask: np.ndarray) -> Box:
    """The tight box x1, y1, x2, y2 around the pixels of a boolean H x W mask, to their far edges; zeros if empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return (0.0, 0.0, 0.0, 0.0)
    return (float(columns[0]), float(rows[0]), float(columns[-1]) + 1, float(rows[-1]) + 1)


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """A boolean H x W mask as COCO RLE: ``{"size": [H, W], "counts": str}``."""
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": rle["counts"].decode("ascii")}


def decode_mask(rle: dict[str, Any]) -> np.ndarray:
    """COCO RLE to a boolean H x W mask. Raises ValueError if the runs do not fill the size exactly."""
    height, width = rle["size"]
    counts = rle["counts"].encode("ascii")
    _check_runs(_run_lengths(counts), height, width)
    return coco.decode({"size": [height, width], "counts": counts}).astype(bool)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A boolean mask at another (width, height), each pixel that of its nearest neighbour."""
    small = Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    return np.asarray(small).astype(bool)


def segmentation_to_mask(segmentation: object, height: int, width: int) -> np.ndarray:
    """The ``segmentation`` of a COCO annotation as a boolean H x W mask.

    A list of polygons (flat x, y, x, y, ... in pixels), or run lengths ``{"size": [H, W], "counts": ...}``,
    plain (a list) or compressed (text). Raises ValueError for anything malformed or of another image size.
    """
    if isinstance(segmentation, dict):
        return _runs_to_mask(segmentation, height, width)
    if not isinstance(segmentation, list):
        raise ValueError(f"its segmentation is a {type(segmentation).__name__}, neither polygons nor run lengths")
    polygons = [_polygon(polygon, height, width) for polygon in segmentation]
    # Less than three corners enclose nothing, and pycocotools would take four numbers for a box.
    drawn = [polygon for polygon in polygons if len(polygon) >= 6]
    if not drawn:
        raise ValueError("its segmentation has no polygon of three corners or more")
    return coco.decode(coco.merge(coco.frPyObjects(drawn, height, width))).astype(bool)


def _polygon(polygon: object, height: int, width: int) -> list[float]:
    try:
        numbers = np.asarray(polygon, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("a polygon of it holds something that is not a number") from error
    if numbers.ndim != 1 or len(numbers) % 2 or not np.isfinite(numbers).all():
        raise ValueError("a polygon of it is not a flat list of x, y pairs")
    for axis, values, side in (("x", numbers[0::2], width), ("y", numbers[1::2], height)):
        slack = OUTSIDE * side  # annotators draw a little over the edge
        if len(values) and not (values.min() >= -slack and values.max() <= side + slack):
            raise ValueError(
                f"a polygon reaches from {axis}={values.min():g} to {values.max():g}, but the image is "
                f"{width}x{height}; the annotations belong to another size of it"
            )
    return numbers.tolist()


def _runs_to_mask(rle: dict[str, Any], height: int, width: int) -> np.ndarray:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list) or size != [height, width]:
        raise ValueError(f"its run lengths have size {size}, but the image has [{height}, {width}] (height, width)")
    if isinstance(counts, list):
        if not all(isinstance(run, int) and run >= 0 for run in counts):
            raise ValueError("its run lengths hold something other than whole numbers of 0 or more")
        _check_runs(counts, height, width)
        return coco.decode(coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)).astype(bool)
    text = counts.decode("latin-1") if isinstance(counts, bytes) else counts
    if not isinstance(text, str) or not text.isascii():
        raise ValueError("its run lengths are neither a list nor compressed text")
    return decode_mask({"size": [height, width], "counts": text})


def _run_lengths(counts: bytes) -> list[int]:
    """The runs in compressed RLE: groups of 5 bits from low to high, 32 meaning "more follow", 16 in the
    last group a negative number; from the fourth run on, differences to the last run but one."""
    runs: list[int] = []
    value = shift = 0
    for byte in counts:
        group = byte - 48
        if not 0 <= group < 64:
            raise ValueError(f"its compressed run lengths hold the character {chr(byte)!r}")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (group & 16) << (shift - 4)
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("its compressed run lengths end early")
    return runs


def _check_runs(runs: Sequence[int], height: int, width: int) -> None:
    """pycocotools leaves pixels that no run covers uninitialised, so that is found here."""
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError(f"its run lengths cover {sum(runs)} pixels, but the image is {width}x{height}")
