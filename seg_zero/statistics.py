"""Uncertainty of a mean over rows: bootstrap intervals, and a paired test for two runs over the same rows.

Memory stays bounded: resamples are drawn in batches of about half a million values. Everything is seeded, so
the same rows give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from seg_zero.errors import InputError

CONFIDENCE = 0.95
_BATCH_VALUES = 500_000

Values = Sequence[float] | np.ndarray


class Interval(NamedTuple):
    """A number of all rows and its 95 % interval."""

    value: float
    low: float
    high: float


class PairedDifference(NamedTuple):
    """Mean of after - before with its 95 % interval, and the two-sided p-value of "no difference"."""

    mean: float
    low: float
    high: float
    p_value: float


def bootstrap_interval(values: Values, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Mean of one number per row (such as the IoUs: gIoU) with its 95 % percentile bootstrap interval.

    Rows are drawn with replacement (Efron, Annals of Statistics 1979). If rows depend on each other
    (several about one image), the interval is too narrow. Raises InputError for fewer than 2 rows.
    """
    (rows,) = _rows(values=values)
    return _bootstrap(math.fsum(rows) / len(rows), (rows,), np.mean, resamples, seed)


def bootstrap_ratio_interval(intersections: Values, unions: Values, resamples: int = 10_000, seed: int = 0) -> Interval:
    """cIoU, the sum of intersections over the sum of unions, with its 95 % percentile bootstrap interval.

    A row's two numbers are drawn together. An empty sum of unions counts 1.0, as in rule ``lisa``.
    """
    above, below = _rows(intersections=intersections, unions=unions)
    if (above < 0).any() or (above > below).any():
        raise InputError("an intersection is negative or larger than its union; give pixels of the same row")

    def ratio(some: np.ndarray, others: np.ndarray, axis: int = -1) -> np.ndarray:
        top, bottom = some.sum(axis=axis), others.sum(axis=axis)
        return np.where(bottom > 0, top / np.maximum(bottom, 1), 1.0)

    return _bootstrap(float(ratio(above, below)), (above, below), ratio, resamples, seed)


def paired_difference(before: Values, after: Values, resamples: int = 10_000, seed: int = 0) -> PairedDifference:
    """Mean of after - before over the same rows, its 95 % bootstrap interval, and a p-value.

    The p-value is that of the sign-flip permutation test: how often the mean would be as far from 0 if each
    row's difference could as well have the other sign (Fisher 1935); exact where there are at most ``resamples``
    ways to flip. Numbers may be IoUs or 0 and 1 (right and wrong), for which it is McNemar's test.
    """
    first, second = _rows(before=before, after=after)
    difference = second - first
    mean, low, high = bootstrap_interval(difference, resamples, seed)
    return PairedDifference(mean, low, high, _sign_flip_p_value(difference[difference != 0], resamples, seed))


def _sign_flip_p_value(changed: np.ndarray, resamples: int, seed: int) -> float:
    """Fraction of sign flips whose sum is at least as far from 0 as that of ``changed``; zeros do not matter.

    scipy.stats.permutation_test gives the same, but draws every flip in Python, many times slower on 10,000 rows.
    """
    rows = len(changed)
    total = changed.sum()
    enough = abs(total) - 1e-9 * np.abs(changed).sum()  # equal sums differ by rounding
    exact = 2**rows <= resamples
    flips = 2**rows if exact else resamples
    rng = np.random.default_rng(seed)
    hits, batch = 0, _batch(rows)
    for start in range(0, flips, batch):
        numbers = np.arange(start, min(start + batch, flips))
        if exact:
            kept = (numbers[:, None] >> np.arange(rows)) & 1
        else:
            kept = rng.integers(0, 2, size=(len(numbers), rows), dtype=bool)
        hits += int(np.count_nonzero(np.abs(2 * (kept.astype(np.float64) @ changed) - total) >= enough))
    # The flip that was observed is one of those drawn (Phipson and Smyth 2010).
    return hits / flips if exact else (hits + 1) / (flips + 1)


def _bootstrap(
    value: float, data: tuple[np.ndarray, ...], statistic: Callable[..., Any], resamples: int, seed: int
) -> Interval:
    if resamples < 1:
        raise InputError(f"resamples is {resamples}; draw at least one, 10000 for a steady interval")
    found = stats.bootstrap(
        data,
        statistic,
        paired=len(data) > 1,
        vectorized=True,
        n_resamples=resamples,
        batch=_batch(len(data[0])),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(value, float(found.low), float(found.high))


def _batch(rows: int) -> int:
    return max(1, _BATCH_VALUES // max(rows, 1))


def _rows(**named: Values) -> list[np.ndarray]:
    """The arguments as arrays of equal length, 2 or more finite numbers each."""
    arrays = {}
    for name, values in named.items():
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 1 or len(array) < 2:
            raise InputError(f"{name} has shape {array.shape}; an interval needs one number per row, 2 rows or more")
        if not np.isfinite(array).all():
            raise InputError(f"{name} holds a value that is not finite; leave such rows out or give them a number")
        arrays[name] = array
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"{' and '.join(f'{n} {name}' for name, n in lengths.items())}; give one of each per row")
    return list(arrays.values())
