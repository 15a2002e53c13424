"""Terms about boxes. Each is in 0..1, averaged over matched pairs; distances are pixels of an 840 x 840 image."""

from __future__ import annotations

import numpy as np

from seg_zero.rewards.needs import needs
from seg_zero.rewards.response import (
    BOX_PIXELS,
    BOX_SIDE,
    LARGEST_SIDE,
    Response,
    capped_by_side,
    comparable,
    falling,
    mean_over_pairs,
)


@needs("true_mask")
def iou(response: Response, threshold: float | None = 0.5, most_area: float | None = None) -> float:
    """Fraction of the pairs whose box IoU is above ``threshold``; the mean IoU itself if that is None.

    most_area: a box of more than that many times the area of the true one is worth 0; None is any.
    """
    if not comparable(response):
        return mean_over_pairs(response, None)
    values = response.pairs.iou if threshold is None else response.pairs.iou > threshold
    if most_area is not None:
        values = np.where(response.pairs.area > most_area, 0.0, values)
    return mean_over_pairs(response, values)


@needs("true_mask")
def box_l1(
    response: Response, within: float = BOX_PIXELS, of_side: float = BOX_SIDE, zero_at: float | None = None
) -> float:
    """Fraction of the pairs whose corners are off by less than ``within`` on average.

    of_side: and by less than this fraction of the true box's smaller side. With ``zero_at``, a pair's value falls
    linearly from 1 at that tolerance to 0 there, or at half the smaller side if that is nearer.
    """
    if not comparable(response):
        return mean_over_pairs(response, None)
    side = response.pairs.side
    zero = None if zero_at is None else capped_by_side(side, zero_at, LARGEST_SIDE)
    return mean_over_pairs(response, falling(response.pairs.box_l1, capped_by_side(side, within, of_side), zero))
