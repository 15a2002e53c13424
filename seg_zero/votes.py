"""Several answers to one question, fused into one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seg_zero.metrics import iou_of


def fuse(masks: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """The pixels in more than half of the masks (boolean H x W), and the number of the mask closest to that (the first
    of equals)."""
    if len(masks) == 1:
        return masks[0], 0
    fused = np.sum(masks, axis=0, dtype=np.int32) * 2 > len(masks)
    likeness = [iou_of(int((mask & fused).sum()), int((mask | fused).sum())) for mask in masks]
    return fused, int(np.argmax(likeness))
