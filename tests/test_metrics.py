"""gIoU and cIoU, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from seg_zero.metrics import MaskMetrics, evaluate_masks, intersection_union


def mask(*pixels: tuple[int, int], shape: tuple[int, int] = (4, 5)) -> np.ndarray:
    array = np.zeros(shape, dtype=bool)
    for y, x in pixels:
        array[y, x] = True
    return array


def test_giou_is_the_mean_and_ciou_the_ratio_of_sums() -> None:
    truths = [mask((0, 0), (0, 1)), mask((1, 1), (1, 2), (1, 3), (2, 1))]
    predictions = [mask((0, 0)), mask((1, 1), (1, 2), (1, 3), (2, 1))]
    result = evaluate_masks(predictions, truths)
    assert result == {"gIoU": pytest.approx((1 / 2 + 1) / 2), "cIoU": pytest.approx(5 / 6), "count": 2}


def test_ignore_pixels_are_removed_from_both_masks() -> None:
    truth = np.zeros((4, 5), dtype=np.uint8)
    truth[0, 0], truth[0, 1] = 1, 255
    assert intersection_union(mask((0, 0), (0, 1)), truth) == (1, 1)


def test_empty_prediction_of_an_empty_truth_is_perfect_and_a_wrong_one_is_zero() -> None:
    metrics = MaskMetrics()
    assert metrics.add(mask(), mask()) == 1.0
    assert metrics.add(mask((0, 0)), mask()) == 0.0
    assert metrics.add(mask(), mask((0, 0))) == 0.0
    assert metrics.giou == pytest.approx(1 / 3)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shape"):
        intersection_union(mask(), mask(shape=(2, 2)))
