"""Terms about points. Each is in 0..1, averaged over matched pairs; distances are pixels of an 840 x 840 image."""

from __future__ import annotations

from seg_zero.rewards.needs import needs
from seg_zero.rewards.response import (
    LARGEST_SIDE,
    Response,
    capped_by_side,
    comparable,
    falling,
    mean_over_pairs,
    point_hits,
)


@needs("true_mask")
def point(response: Response, within: float | None = None, zero_at: float | None = None) -> float:
    """Fraction of the pairs whose points lie on the true object and inside their own predicted box.

    On the object: in the true mask where there is one; otherwise in the true box, and off the true points by less than
    a quarter of the object's smaller side and 100 pixels (the mean distance under the better pairing). ``within``
    replaces this by a distance in the true box and mask, 30 if it is None and the truth has one point, 100 if it has
    two. With ``zero_at`` a pair's value falls linearly from 1 there to 0 at ``zero_at``; ``zero_at=200`` is Dr. Seg's
    rule. Both are cut at half the smaller side.
    """
    if not comparable(response):
        return mean_over_pairs(response, None)
    pairs = response.pairs
    if within is None and zero_at is None:
        return mean_over_pairs(response, point_hits(pairs, response.true_mask is not None) & pairs.inside)
    full = capped_by_side(pairs.side, pairs.reach if within is None else within, LARGEST_SIDE)
    zero = None if zero_at is None else capped_by_side(pairs.side, zero_at, LARGEST_SIDE)
    return mean_over_pairs(response, falling(pairs.distance, full, zero) * (pairs.within & pairs.inside))
