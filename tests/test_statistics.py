"""Bootstrap intervals and the test for paired differences: coverage, known answers, memory, malformed input."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from seg_zero.errors import InputError
from seg_zero.statistics import bootstrap_interval, bootstrap_ratio_interval, paired_difference


def iou_like(rng: np.random.Generator, rows: int) -> np.ndarray:
    """IoUs as they come: a third misses, the others near 0.8. Their mean is 2/3 * 0.8."""
    return np.where(rng.random(rows) < 1 / 3, 0.0, rng.beta(8, 2, rows))


def test_the_interval_holds_the_true_mean_about_19_times_in_20() -> None:
    rng = np.random.default_rng(1)
    found = [bootstrap_interval(iou_like(rng, 80), resamples=1000, seed=seed) for seed in range(400)]
    share = np.mean([low <= 2 / 3 * 0.8 <= high for _, low, high in found])
    assert 0.91 <= share <= 0.98


def test_the_ratio_interval_holds_the_true_ratio_about_19_times_in_20() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for seed in range(400):
        union = rng.integers(100, 2000, 80)
        _, low, high = bootstrap_ratio_interval(rng.binomial(union, iou_like(rng, 80)), union, 1000, seed)
        hits += low <= 2 / 3 * 0.8 <= high
    assert 0.90 <= hits / 400 <= 0.98


def test_the_interval_agrees_with_the_normal_one_on_many_rows() -> None:
    values = iou_like(np.random.default_rng(3), 4000)
    value, low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert value == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((value - half, value + half), abs=0.1 * half)


def test_a_ratio_of_equal_unions_has_the_interval_of_the_mean() -> None:
    ious = np.random.default_rng(4).integers(0, 101, 200)
    mean = bootstrap_interval(ious / 100)
    assert bootstrap_ratio_interval(ious, np.full(200, 100)) == pytest.approx(mean)


def test_large_objects_weigh_more_in_the_ratio() -> None:
    value, low, high = bootstrap_ratio_interval([0, 0, 900], [100, 100, 1000])
    assert value == 0.75 and low == 0.0 and high == 0.9


def test_rows_without_a_union_count_as_perfect_only_where_nothing_else_is_drawn() -> None:
    assert bootstrap_ratio_interval([0, 0], [0, 0]) == (1.0, 1.0, 1.0)
    assert bootstrap_ratio_interval([0, 0], [0, 5]) == (0.0, 0.0, 1.0)


def test_the_same_rows_give_the_same_numbers_and_a_seed_others() -> None:
    rng = np.random.default_rng(5)
    before, after = iou_like(rng, 300), iou_like(rng, 300)
    assert bootstrap_interval(before) == bootstrap_interval(before)
    assert bootstrap_interval(before) != bootstrap_interval(before, seed=1)
    assert paired_difference(before, after) == paired_difference(before, after)


def test_equal_runs_differ_by_nothing() -> None:
    values = iou_like(np.random.default_rng(6), 50)
    assert paired_difference(values, values) == (0.0, 0.0, 0.0, 1.0)


def test_runs_in_the_other_order_have_the_opposite_difference() -> None:
    rng = np.random.default_rng(7)
    before = iou_like(rng, 300)
    after = np.clip(before + rng.normal(0.03, 0.2, 300), 0, 1)
    there, back = paired_difference(before, after), paired_difference(after, before)
    assert back.mean == -there.mean
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=0.003)
    assert back.p_value == pytest.approx(there.p_value, rel=0.3, abs=0.002)
    assert there.low < there.mean < there.high


def test_pairing_finds_a_small_gain_among_rows_that_differ_much() -> None:
    rng = np.random.default_rng(8)
    before = rng.random(300)
    after = before + rng.normal(0.02, 0.05, 300)
    assert paired_difference(before, after).p_value < 0.001
    assert paired_difference(before, rng.permutation(after)).p_value > 0.05


def test_without_a_difference_small_p_values_are_as_rare_as_they_say() -> None:
    rng = np.random.default_rng(9)
    found = [paired_difference(rng.random(40), rng.random(40), resamples=400, seed=seed).p_value for seed in range(300)]
    assert 0.02 <= np.mean([p <= 0.05 for p in found]) <= 0.08
    assert 0.14 <= np.mean([p <= 0.2 for p in found]) <= 0.26


@pytest.mark.parametrize(("better", "worse"), [(6, 0), (7, 2), (5, 5), (1, 0)])
def test_right_and_wrong_answers_are_compared_as_by_mcnemar(better: int, worse: int) -> None:
    before = np.array([0] * better + [1] * worse + [1] * 30 + [0] * 20)
    after = np.array([1] * better + [0] * worse + [1] * 30 + [0] * 20)
    expected = stats.binomtest(better, better + worse).pvalue
    assert paired_difference(before, after).p_value == pytest.approx(expected)


@pytest.mark.parametrize(("rows", "near"), [(10, 1e-12), (40, 0.02)])
def test_p_values_are_those_of_scipy(rows: int, near: float) -> None:
    rng = np.random.default_rng(11)
    for shift in (0.0, 0.05, 0.1):
        difference = rng.normal(shift, 0.3, rows)
        expected = stats.permutation_test((difference,), np.sum, permutation_type="samples", rng=rng).pvalue
        assert paired_difference(np.zeros(rows), difference).p_value == pytest.approx(expected, abs=near)


def test_memory_is_bounded() -> None:
    rows = 10_000
    values = iou_like(np.random.default_rng(10), rows)
    tracemalloc.start()
    bootstrap_interval(values, resamples=2_000)
    bootstrap_ratio_interval((values * 1000).astype(int), np.full(rows, 1000), resamples=2_000)
    paired_difference(values, values[::-1], resamples=2_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval([]), "values has shape"),
        (lambda: bootstrap_interval([0.5]), "2 rows or more"),
        (lambda: bootstrap_interval(np.zeros((3, 2))), "values has shape"),
        (lambda: bootstrap_interval([0.5, float("nan")]), "values holds a value that is not finite"),
        (lambda: bootstrap_interval([0.5, 0.6], resamples=0), "resamples is 0"),
        (lambda: bootstrap_ratio_interval([1, 2], [1, 2, 3]), "2 intersections and 3 unions"),
        (lambda: bootstrap_ratio_interval([1, 4], [1, 3]), "larger than its union"),
        (lambda: bootstrap_ratio_interval([1, -1], [1, 3]), "negative"),
        (lambda: paired_difference([1, 2], [1]), "after has shape"),
        (lambda: paired_difference([1, 2], [1, 2, 3]), "2 before and 3 after"),
        (lambda: paired_difference([1, 2], [1, float("inf")]), "after holds"),
    ],
)
def test_numbers_without_an_interval_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
