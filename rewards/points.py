"""Terms about points. Each is in 0..1, averaged over matched pairs; distances are pixels of an 840 x 840 image."""

from __future__ import annotations

from seg_zero.rewards.response import Response, comparable, falling, mean_over_pairs


def point(response: Response, within: float | None = None, zero_at: float | None = None) -> float:
    """Fraction of the pairs whose points are near the true ones and inside their own predicted box.

    within: how near; None is the published 30 where the truth has one point, 100 where it has two (the mean
    distance under the better pairing). With ``zero_at`` a pair's value falls linearly from 1 at ``within`` to
    0 there; ``zero_at=200`` is Dr. Seg's rule.
    """
    if not comparable(response):
        return mean_over_pairs(response, None)
    pairs = response.pairs
    near = falling(pairs.distance, pairs.reach if within is None else within, zero_at)
    return mean_over_pairs(response, near * pairs.inside)
