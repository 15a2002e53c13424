"""Boxes, points and prompt objects, and which of their pixels lie in an image.

A pixel coordinate counts from the image's upper left corner, x to the right and y down; the pixel in column c and row r
covers c..c+1 and r..r+1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]
Point = tuple[float, float]

# Beyond any image; larger numbers come from a broken answer.
MAX_ABS_COORDINATE = 1_000_000.0


@dataclass(frozen=True)
class PromptObject:
    """One object as SAM2 prompts: a box (x1, y1, x2, y2) and one or two positive points (x, y)."""

    box: Box | None
    points: tuple[Point, ...] = ()

    def scaled(self, sx: float, sy: float) -> PromptObject:
        """The same object in an image whose width and height are ``sx`` and ``sy`` times as large."""
        box = None if self.box is None else (self.box[0] * sx, self.box[1] * sy, self.box[2] * sx, self.box[3] * sy)
        return PromptObject(box, tuple((x * sx, y * sy) for x, y in self.points))


def usable_box(box: Box | None, width: int, height: int) -> Box | None:
    """The box with ordered corners, clipped to the image; None if nothing with an area is left."""
    # The comparison is also False for NaN, and safe for integers too large for a float.
    if box is None or not all(-MAX_ABS_COORDINATE <= v <= MAX_ABS_COORDINATE for v in box):
        return None
    x1, x2 = (min(max(float(x), 0.0), float(width)) for x in sorted((box[0], box[2])))
    y1, y2 = (min(max(float(y), 0.0), float(height)) for y in sorted((box[1], box[3])))
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def usable_points(points: Sequence[Point], width: int, height: int) -> list[Point]:
    """The points that lie in the image."""
    return [(float(x), float(y)) for x, y in points if 0 <= x <= width and 0 <= y <= height]


def box_iou(one: Box, other: Box) -> float:
    """IoU of two boxes x1, y1, x2, y2 that reach to the far edges of their pixels; 0 if either has no area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0) for box in (one, other)]
    return shared / (sum(areas) - shared) if shared > 0 else 0.0
