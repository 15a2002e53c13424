"""The term about masks: SAM2 in the loop."""

from __future__ import annotations

from collections.abc import Sequence

from seg_zero.rewards.needs import needs
from seg_zero.rewards.response import Response

# Mask IoU above which a tier is reached, and what it is worth. Source: StAR, 2, 3 and 4 of 4.
TIERS = ((0.5, 0.5), (0.7, 0.75), (0.8, 1.0))


@needs("mask")
def mask(response: Response, tiers: Sequence[Sequence[float]] | None = TIERS) -> float:
    """What the IoU of SAM2's mask with the true mask is worth, 0..1; 0 if SAM2 gave none.

    tiers: rising pairs (IoU above which, value); None is the IoU itself. A correct empty answer is worth 1.
    """
    if response.rightly_empty:
        return 1.0
    iou = response.mask_iou
    if iou is None or not response.answer.objects or not response.truth:
        return 0.0
    if tiers is None:
        return iou
    return max((value for above, value in tiers if iou > above), default=0.0)
