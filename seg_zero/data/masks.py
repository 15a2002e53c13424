"""Masks to prompts and to COCO run-length encoding."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from seg_zero.answer import Point, PromptObject


def mask_to_prompt_object(mask: np.ndarray) -> PromptObject:
    """Box and two points of a boolean H x W mask, in its pixels.

    The box holds the extreme pixels (inclusive). Point 1 is the maximum of the distance transform (the
    centre of the largest inscribed circle); point 2 is the maximum within the half of the mask that is
    farther from point 1. Raises ValueError for an empty mask.
    """
    ys, xs = np.nonzero(mask)
    if len(xs) == 0:
        raise ValueError("the mask is empty: it has no box and no points")
    x1, x2, y1, y2 = int(xs.min()), int(xs.max()), int(ys.min()), int(ys.max())
    # A border of zeros makes the crop's edge count as outside, as it does in the whole image.
    depth = distance_transform_edt(np.pad(mask[y1 : y2 + 1, x1 : x2 + 1], 1))[1:-1, 1:-1][ys - y1, xs - x1]
    first = int(depth.argmax())
    distance = np.hypot(xs - xs[first], ys - ys[first])
    far = np.nonzero(distance >= np.median(distance))[0]
    second = int(far[depth[far].argmax()])
    points: tuple[Point, ...] = tuple((float(xs[i]), float(ys[i])) for i in (first, second))
    return PromptObject((float(x1), float(y1), float(x2), float(y2)), points)


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """A boolean H x W mask as COCO RLE: ``{"size": [H, W], "counts": str}``."""
    from pycocotools import mask as coco

    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": rle["counts"].decode("ascii")}


def decode_mask(rle: dict[str, Any]) -> np.ndarray:
    """COCO RLE to a boolean H x W mask."""
    from pycocotools import mask as coco

    return coco.decode({"size": list(rle["size"]), "counts": rle["counts"].encode("ascii")}).astype(bool)
