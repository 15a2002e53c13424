"""Several answers to one question, made one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seg_zero.metrics import iou_of


def fuse(masks: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """The pixels that more than half of the masks (boolean H x W) hold, and the number of the first mask that is
    most like that."""
    if len(masks) == 1:
        return masks[0], 0
    fused = np.sum(masks, axis=0, dtype=np.int32) * 2 > len(masks)
    likeness = [iou_of(int((mask & fused).sum()), int((mask | fused).sum())) for mask in masks]
    return fused, int(np.argmax(likeness))
