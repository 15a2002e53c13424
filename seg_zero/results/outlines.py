"""Masks as polygons with few corners, for tools in which people correct them by hand."""

from __future__ import annotations

import cv2
import numpy as np

from seg_zero.masks import paint_polygon
from seg_zero.metrics import iou_of

LEAST_IOU = 0.99  # of the painted polygons with the mask
_TOLERANCES = (4.0, 2.0, 1.0, 0.5, 0.0)  # pixels by which corners may be off

Outline = list[tuple[float, float]]


def outlines(mask: np.ndarray) -> list[Outline] | None:
    """The pieces of a boolean H x W mask as polygons, with as few corners as keep LEAST_IOU.

    Painted, they cover the pixels on their own edge too, as :func:`seg_zero.masks.paint_polygon` does. None for masks
    that polygons without holes cannot describe, such as rings.
    """
    edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    size = (mask.shape[1], mask.shape[0])
    for tolerance in _TOLERANCES:
        pieces = [cv2.approxPolyDP(edge, tolerance, True)[:, 0] for edge in edges]
        found = [[(float(x), float(y)) for x, y in piece] for piece in pieces if len(piece) >= 3]
        painted = np.zeros_like(mask)
        for piece in found:
            painted |= paint_polygon(piece, size)
        if iou_of(int((painted & mask).sum()), int((painted | mask).sum())) >= LEAST_IOU:
            return found
    return None
