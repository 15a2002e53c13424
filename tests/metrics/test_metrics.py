"""Mask metrics: worked by hand, against one pixel at a time, and the properties every rule must have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_zero.errors import InputError
from seg_zero.metrics import (
    GresMetrics,
    MaskCounts,
    MaskMetrics,
    SegZeroMetrics,
    box_accuracy,
    count_pixels,
    evaluate_masks,
    intersection_union,
    metrics_for,
    point_in_mask,
)

RULES = ("lisa", "gres", "seg_zero")
Pair = tuple[np.ndarray | None, np.ndarray]


def mask(*pixels: tuple[int, int], shape: tuple[int, int] = (4, 5)) -> np.ndarray:
    array = np.zeros(shape, dtype=bool)
    for y, x in pixels:
        array[y, x] = True
    return array


def first(found: int, ignored: int = 0) -> np.ndarray:
    """A truth of 4 x 5 whose first pixels are 1, the next ones 255, the others 0."""
    truth = np.zeros(20, dtype=np.uint8)
    truth[:found], truth[found : found + ignored] = 1, 255
    return truth.reshape(4, 5)


# What docs/metrics.md shows: a name, the prediction, the truth.
EXAMPLES: list[tuple[str, np.ndarray | None, np.ndarray]] = [
    ("8 pixels, 6 of them right", first(14) - first(6), first(12)),
    ("4 pixels, all right; 4 more are to be ignored", first(4), first(4, ignored=4)),
    ("nothing there, nothing predicted", first(0), first(0)),
    ("nothing there, 3 pixels predicted", first(3), first(0)),
    ("an object of 5 pixels, the answer could not be read", first(0), first(5)),
    ("an object of 5 pixels, segmentation failed", None, first(5)),
]


def random_pairs(count: int, seed: int) -> list[Pair]:
    """Masks of 6 x 7 with ignored pixels, some empty, some predictions missing."""
    rng = np.random.default_rng(seed)
    pairs: list[Pair] = []
    for _ in range(count):
        truth = rng.choice([0, 1, 255], size=(6, 7), p=[0.6, 0.3, 0.1]).astype(np.uint8)
        if rng.random() < 0.3:
            truth[truth == 1] = 0
        prediction = (truth == 1) ^ (rng.random((6, 7)) < rng.choice([0.02, 0.3]))
        if rng.random() < 0.2:
            prediction[:] = False
        pairs.append((None if rng.random() < 0.1 else prediction, truth))
    return pairs


def pixel_by_pixel(pairs: Sequence[Pair], rule: str) -> dict[str, float]:
    """The three rules again, written as plainly as they read."""
    ious: list[float] = []
    intersection = union = 0
    shares: dict[str, list[bool]] = {"N-acc": [], "T-acc": [], "Pr@0.7": [], "Pr@0.8": [], "Pr@0.9": []}
    for prediction, truth in pairs:
        if prediction is None and rule == "seg_zero":
            continue
        both = either = true = found = 0
        for y in range(truth.shape[0]):
            for x in range(truth.shape[1]):
                if truth[y, x] == 255 and rule != "seg_zero":
                    continue
                here, there = prediction is not None and bool(prediction[y, x]), truth[y, x] > 0
                both, either, found, true = (
                    both + (here and there),
                    either + (here or there),
                    found + here,
                    true + there,
                )
        iou = both / either if either else (0.0 if rule == "seg_zero" or prediction is None else 1.0)
        ious.append(iou)
        intersection, union = intersection + both, union + either
        if true:
            shares["T-acc"].append(found > 0)
            for threshold in (0.7, 0.8, 0.9):
                shares[f"Pr@{threshold}"].append(iou >= threshold)
        else:
            shares["N-acc"].append(found == 0 and prediction is not None)
    values = {"gIoU": sum(ious) / len(ious), "cIoU": intersection / union, "count": float(len(ious))}
    if rule == "gres":
        values |= {name: sum(some) / len(some) for name, some in shares.items() if some}
    return values


def score(pairs: Sequence[Pair], rule: str) -> dict[str, float]:
    return evaluate_masks([p for p, _ in pairs], [t for _, t in pairs], rule=rule)


# By hand


def test_giou_is_the_mean_and_ciou_the_ratio_of_sums() -> None:
    truths = [mask((0, 0), (0, 1)), mask((1, 1), (1, 2), (1, 3), (2, 1))]
    predictions = [mask((0, 0)), mask((1, 1), (1, 2), (1, 3), (2, 1))]
    for rule in ("lisa", "seg_zero"):
        assert evaluate_masks(predictions, truths, rule=rule) == {"gIoU": 0.75, "cIoU": 5 / 6, "count": 2}


def test_ignore_pixels_are_removed_from_both_masks() -> None:
    truth = np.zeros((4, 5), dtype=np.uint8)
    truth[0, 0], truth[0, 1] = 1, 255
    assert intersection_union(mask((0, 0), (0, 1)), truth) == (1, 1)
    assert count_pixels(mask((0, 0), (0, 1), (3, 3)), truth) == MaskCounts(1, 2, 1, ignored=1, ignored_prediction=1)


def test_empty_prediction_of_an_empty_truth_is_perfect_and_a_wrong_one_is_zero() -> None:
    metrics = MaskMetrics()
    assert metrics.add(mask(), mask()) == 1.0
    assert metrics.add(mask((0, 0)), mask()) == 0.0
    assert metrics.add(mask(), mask((0, 0))) == 0.0
    assert metrics.giou == pytest.approx(1 / 3)


def test_the_page_shows_what_each_rule_gives() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    scores: dict[str, list[str]] = {name: [] for name, _, _ in EXAMPLES}
    totals: dict[str, list[str]] = {}
    for rule in RULES:
        metrics: Any = metrics_for(rule)
        for name, prediction, truth in EXAMPLES:
            before = (metrics.intersection, metrics.union)
            iou = metrics.add(prediction, truth)
            i, u = metrics.intersection - before[0], metrics.union - before[1]
            scores[name].append("skipped" if iou is None else f"{i}/{u} → {iou:.2f}")
        for key, value in metrics.result().items():
            totals.setdefault(key, [""] * 3)[RULES.index(rule)] = f"{value}" if key == "count" else f"{value:.3f}"
    for name, cells in [*scores.items(), *totals.items()]:
        line = "| " + " | ".join([name if name in scores else f"**{name}**", *cells]) + " |"
        assert line.replace("|  |", "| |").replace("|  |", "| |") in page, line


def test_gres_counts_rows_with_and_without_a_target_apart() -> None:
    pairs: list[Pair] = [
        (mask(), mask()),
        (mask((0, 0)), mask()),
        (None, mask()),
        (mask(), mask((0, 0))),
        (first(7) == 1, first(10)),  # an IoU of exactly 0.7 counts
        (first(19) == 1, first(20)),
    ]
    assert score(pairs, "gres") == {
        "gIoU": pytest.approx((1 + 0 + 0 + 0 + 0.7 + 0.95) / 6),
        "cIoU": 26 / 32,
        "count": 6,
        "N-acc": 1 / 3,
        "T-acc": 2 / 3,
        "Pr@0.7": 2 / 3,
        "Pr@0.8": 1 / 3,
        "Pr@0.9": 1 / 3,
    }


def test_gres_leaves_out_the_share_of_no_rows() -> None:
    assert set(score([(first(4), first(4))], "gres")) == {
        "gIoU",
        "cIoU",
        "count",
        "T-acc",
        "Pr@0.7",
        "Pr@0.8",
        "Pr@0.9",
    }
    assert score([(first(0), first(0))], "gres") == {"gIoU": 1.0, "cIoU": 1.0, "count": 1, "N-acc": 1.0}
    assert score([(None, first(0))], "gres") == {"gIoU": 0.0, "cIoU": 1.0, "count": 1, "N-acc": 0.0}


def test_gres_takes_a_truth_of_ignored_pixels_only_for_one_without_a_target() -> None:
    assert score([(first(5), first(0, ignored=5))], "gres")["N-acc"] == 1.0


def test_seg_zero_takes_ignored_pixels_for_foreground_and_an_empty_union_for_a_miss() -> None:
    metrics = SegZeroMetrics()
    assert metrics.add(first(4), first(4, ignored=4)) == 0.5
    assert metrics.add(mask(), mask()) == 0.0
    assert metrics.ciou == 4 / 8
    assert score([(mask(), mask())], "seg_zero") == {"gIoU": 0.0, "cIoU": 0.0, "count": 1}


def test_seg_zero_skips_failed_rows_but_not_empty_masks() -> None:
    metrics = SegZeroMetrics()
    assert metrics.add(None, first(5)) is None
    assert metrics.add(mask(), first(5)) == 0.0
    assert (metrics.count, metrics.skipped) == (1, 1)
    with pytest.raises(InputError, match="all 2 rows failed"):
        score([(None, first(5)), (None, first(5))], "seg_zero")


# Properties


@pytest.mark.parametrize("rule", RULES)
def test_agrees_with_one_pixel_at_a_time(rule: str) -> None:
    for seed in range(20):
        pairs = random_pairs(25, seed)
        assert score(pairs, rule) == pytest.approx(pixel_by_pixel(pairs, rule), abs=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64, bool])
@pytest.mark.parametrize("rule", RULES)
def test_any_type_of_0_and_1_gives_the_same(rule: str, dtype: type) -> None:
    pairs = random_pairs(25, 3)
    converted: list[Pair] = [(None if p is None else p.astype(dtype), t.astype(np.int32)) for p, t in pairs]
    assert score(converted, rule) == score(pairs, rule)


def test_generators_are_read_one_row_at_a_time() -> None:
    events: list[str] = []

    def masks(name: str) -> Any:
        for number in range(3):
            events.append(f"{name}{number}")
            yield first(number)

    evaluate_masks(masks("p"), masks("t"))
    assert events == ["p0", "t0", "p1", "t1", "p2", "t2"]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 50), st.sampled_from(RULES))
def test_order_and_shards_change_no_bit(data: st.DataObject, seed: int, rule: str) -> None:
    pairs = random_pairs(30, seed)
    whole: Any = metrics_for(rule)
    for pair in pairs:
        whole.add(*pair)
    shuffled = data.draw(st.permutations(pairs))
    cuts = sorted(data.draw(st.lists(st.integers(0, 30), max_size=5)))
    total: Any = metrics_for(rule)
    for start, end in zip([0, *cuts], [*cuts, 30], strict=True):
        shard: Any = metrics_for(rule)
        for pair in shuffled[start:end]:
            shard.add(*pair)
        total = shard.merge(total)
    assert total == whole
    assert total.result() == whole.result()


def test_one_row_or_many_equal_ones_give_that_rows_iou_exactly() -> None:
    for true, found in ((3, 1), (7, 5), (19, 13)):
        metrics = MaskMetrics()
        for _ in range(49):
            assert metrics.add(first(found), first(true)) == found / true
        assert metrics.giou == found / true


@pytest.mark.parametrize("rule", RULES)
def test_values_are_shares_and_a_perfect_prediction_of_a_target_has_all_of_them(rule: str) -> None:
    for seed in range(10):
        values = score(random_pairs(25, seed), rule)
        assert all(0 <= value <= 1 for name, value in values.items() if name != "count")
    truths = [t > 0 for _, t in random_pairs(25, 0) if (t == 1).any()]
    perfect = score([(t, t) for t in truths], rule)
    assert {value for name, value in perfect.items() if name != "count"} == {1.0}


@pytest.mark.parametrize("rule", ["lisa", "seg_zero"])
def test_prediction_and_truth_may_change_places(rule: str) -> None:
    pairs = [(p, t == 1) for p, t in random_pairs(25, 1) if p is not None]
    assert score([(t, p) for p, t in pairs], rule) == score(list(pairs), rule)


def test_gres_keeps_the_giou_and_ciou_of_lisa() -> None:
    for seed in range(10):
        pairs = random_pairs(25, seed)
        lisa, gres = score(pairs, "lisa"), score(pairs, "gres")
        assert {name: gres[name] for name in lisa} == lisa


def test_stored_counts_score_like_the_masks() -> None:
    pairs = random_pairs(40, 5)
    for rule in RULES:
        metrics: Any = metrics_for(rule)
        for prediction, truth in pairs:
            skip = prediction is None and rule == "seg_zero"
            metrics.add_counts(None if skip else MaskCounts(**vars(count_pixels(prediction, truth))))
        assert metrics.result() == score(pairs, rule)


def test_shards_of_two_rules_do_not_merge() -> None:
    with pytest.raises(InputError, match="SegZeroMetrics cannot be merged into GresMetrics"):
        GresMetrics().merge(SegZeroMetrics())  # type: ignore[arg-type]


# Pieces


def test_fractions_of_rows_with_and_without_a_target() -> None:
    """Each against its definition, over arrays of all rows."""
    pairs = random_pairs(60, 7)
    answered = np.array([p is not None for p, _ in pairs])
    found = np.array([count_pixels(p, t).prediction > 0 for p, t in pairs])
    target = np.array([count_pixels(p, t).truth > 0 for p, t in pairs])
    ious = np.array([MaskMetrics().add(p, t) for p, t in pairs])
    values = score(pairs, "gres")
    assert values["N-acc"] == pytest.approx((answered & ~found)[~target].mean())
    assert values["T-acc"] == pytest.approx(found[target].mean())
    for least in (0.7, 0.8, 0.9):
        assert values[f"Pr@{least}"] == pytest.approx((ious >= least)[target].mean())
    assert "N-acc" not in score([pair for pair, one in zip(pairs, target, strict=True) if one], "gres")


def test_box_accuracy_counts_pixels_and_wants_more_than_the_threshold() -> None:
    truth = (0, 0, 9, 9)
    half, more = (0, 0, 9, 4), (0, 0, 9, 5)
    swapped, apart = (9, 9, 0, 0), (20, 20, 29, 29)
    found = [truth, half, more, None, swapped, apart]
    assert box_accuracy(found, [truth] * 6) == 2 / 6
    assert box_accuracy(found, [truth] * 6, threshold=0.49) == 3 / 6
    assert box_accuracy([(3, 3, 3, 3)], [(3, 3, 3, 3)]) == 1.0


def test_a_point_is_right_on_a_pixel_of_the_truth() -> None:
    truth = first(3, ignored=2)  # (0, 0), (1, 0), (2, 0) are it, (3, 0) and (4, 0) ignored
    assert point_in_mask([(0, 0), (2.9, 0.5)], truth) == 1.0
    assert point_in_mask([(2, 0), (3, 0), (0, 1), (-0.1, 0), (5, 0)], truth) == 1 / 5
    assert point_in_mask([(0, 3)], truth == 1) == 0.0


# Malformed input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "no row"),
        (([], [], "gres"), "no row"),
        (([mask()], []), "truths end after 0 rows"),
        (([mask()], [mask(), mask()]), "predictions end after 1 rows"),
        (([None], [mask(), mask()], "seg_zero"), "predictions end after 1 rows"),
        (([mask()], [mask()], "coco"), "no rule 'coco'.*lisa, gres, seg_zero"),
        (([mask(), mask()], [mask(), mask(shape=(2, 2))]), r"row 1: prediction has shape \(4, 5\), truth \(2, 2\)"),
        (([mask()[None]], [mask()[None]]), r"row 0: truth has shape \(1, 4, 5\)"),
        (([mask()[0]], [mask()]), r"prediction has shape \(5,\)"),
        (([mask()], [None]), "row 0: truth is None"),
        (([mask(shape=(0, 5))], [mask(shape=(0, 5))]), r"truth has shape \(0, 5\)"),
        (([np.full((4, 5), 0.5)], [mask()]), "prediction holds the value 0.5.*threshold"),
        (([np.full((4, 5), 255)], [mask()]), "prediction holds the value 255"),
        (([np.full((4, 5), np.nan)], [mask()]), "prediction holds the value nan"),
        (([mask()], [np.full((4, 5), 2)]), "truth holds the value 2"),
        (([mask()], [np.full((4, 5), 2)], "seg_zero"), "truth holds the value 2"),
        (([mask()], [np.full((4, 5), np.nan)]), "truth holds the value nan"),
        (([mask()], [np.full((4, 5), -1)]), "truth holds the value -1"),
        (([mask().astype(object)], [mask()]), "prediction holds object"),
        (([mask()], [mask().astype(str)]), "truth holds"),
    ],
)
def test_bad_masks_are_refused_by_name(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate_masks(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: intersection_union(mask(), mask(shape=(2, 2))), "shape"),
        (lambda: box_accuracy([], []), "0 predicted and 0 true"),
        (lambda: box_accuracy([None], [(0, 0, 1, 1)] * 2), "1 predicted and 2 true"),
        (lambda: box_accuracy([(0, 0, 1)], [(0, 0, 1, 1)]), "predicted boxes are not all 4"),
        (lambda: box_accuracy([(0, 0, 1, "x")], [(0, 0, 1, 1)]), "predicted boxes are not all 4"),  # type: ignore[list-item]
        (lambda: box_accuracy([(0, 0, 1, float("nan"))], [(0, 0, 1, 1)]), "predicted boxes are not all 4 finite"),
        (lambda: box_accuracy([None], [(2, 0, 1, 1)]), "x2 < x1"),
        (lambda: point_in_mask([], mask()), "no points"),
        (lambda: point_in_mask([(1, 2, 3)], mask()), "points are not all 2"),
        (lambda: point_in_mask([(1, float("inf"))], mask()), "points are not all 2 finite"),
        (lambda: point_in_mask([(1, 1)], mask()[0]), "truth has shape"),
    ],
)
def test_pieces_refuse_what_has_no_value(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
