"""Terms about boxes. Each is in 0..1, averaged over matched pairs; distances are pixels of an 840 x 840 image."""

from __future__ import annotations

from seg_zero.rewards.response import BOX_PIXELS, Response, comparable, falling, mean_over_pairs


def iou(response: Response, threshold: float | None = 0.5) -> float:
    """Fraction of the pairs whose box IoU is above ``threshold``; the mean IoU itself if that is None."""
    if not comparable(response):
        return mean_over_pairs(response, None)
    values = response.pairs.iou
    return mean_over_pairs(response, values if threshold is None else values > threshold)


def box_l1(response: Response, within: float = BOX_PIXELS, zero_at: float | None = None) -> float:
    """Fraction of the pairs whose corners are off by less than ``within`` on average.

    With ``zero_at``, a pair's value falls linearly from 1 at ``within`` to 0 there.
    """
    if not comparable(response):
        return mean_over_pairs(response, None)
    return mean_over_pairs(response, falling(response.pairs.box_l1, within, zero_at))
