"""Boundary IoU: detectron2's values, a case by hand, exact sums, and independence of the classes' numbers."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.golden import golden_files, load_golden

from seg_zero.errors import InputError
from seg_zero.metrics.boundary import BoundaryConfusion, BoundaryRegions, boundary_width
from seg_zero.metrics.semantic import Confusion


@pytest.mark.parametrize("name", golden_files("metrics", "metrics_d2_*"))
def test_boundaries_meet_detectron2(name: str) -> None:
    data = load_golden("metrics", name)
    classes = int(data["num_classes"])
    boundary, confusion = BoundaryConfusion(classes), Confusion(classes)
    for index in range(int(data["n"])):
        boundary.add(data[f"pred_{index}"], data[f"gt_{index}"])
        confusion.add(data[f"pred_{index}"], data[f"gt_{index}"])
    assert boundary.matrix.T.tolist() == data["boundary_conf_pred_by_gt"].tolist()
    assert np.allclose(boundary.iou() * 100, data["boundary_iou"], atol=1e-6, equal_nan=True)
    least = boundary.min_iou(confusion.iou("detectron2")) * 100
    assert np.allclose(least, data["min_iou"], atol=1e-6, equal_nan=True)


def halves(column: int) -> np.ndarray:
    """20 x 20: class 0 left of a column, class 1 from it on."""
    return np.where(np.arange(20)[None, :] < column, 0, 1).repeat(20, axis=0).reshape(20, 20)


def test_regions_by_hand() -> None:
    assert boundary_width((20, 20)) == 1
    regions = BoundaryRegions(3)
    regions.add(halves(9), halves(10))
    # Rings of 10 x 20 and 9 x 20, one pixel wide: 56 and 54 pixels; they share all but the right columns.
    top_bottom, left = 2 * 9, 18
    assert regions.intersection[0] == top_bottom + left
    assert regions.union[0] == 56 + 54 - (top_bottom + left)
    assert np.isnan(regions.iou()[2])


def test_regions_do_not_depend_on_the_numbers_of_classes() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = (rng.integers(0, 3, (9, 7)).repeat(8, 0).repeat(8, 1) for _ in range(2))
    order = np.array([2, 0, 1])
    first, second, released = BoundaryRegions(3), BoundaryRegions(3), [BoundaryConfusion(3), BoundaryConfusion(3)]
    first.add(prediction, truth)
    second.add(order[prediction], order[truth])
    assert np.array_equal(first.iou(), second.iou()[order])
    released[0].add(prediction, truth)
    released[1].add(order[prediction], order[truth])
    assert not np.array_equal(released[0].iou(), released[1].iou()[order])  # what the docstring warns of


@pytest.mark.parametrize("made", [BoundaryConfusion, BoundaryRegions])
def test_sums_are_exact_in_any_order(made: type) -> None:
    rng = np.random.default_rng(1)
    images = [(rng.integers(0, 4, (30, 20)), rng.choice([0, 1, 2, 3, 255], (30, 20))) for _ in range(3)]
    whole, parts = made(4), [made(4), made(4)]
    for prediction, truth in images:
        whole.add(prediction, truth)
    parts[1].add(*images[2])
    parts[1].add(*images[0])
    parts[0].add(*images[1])
    assert np.array_equal(parts[0].merge(parts[1]).iou(), whole.iou(), equal_nan=True)


@pytest.mark.parametrize("made", [BoundaryConfusion, BoundaryRegions])
def test_what_does_not_fit_is_one_line(made: type) -> None:
    for call, message in (
        (lambda: made(255), "boundaries of 255 classes; give 1 to 254"),
        (lambda: made(2).add(np.zeros((2, 2), int), np.zeros((2, 3), int)), "resize the prediction"),
        (lambda: made(2).add(np.full((2, 2), 7), np.zeros((2, 2), int)), "the value 7; with 2 classes give 0 to 1"),
        (lambda: made(2).merge(made(3)), "3 classes cannot be merged into 2"),
    ):
        with pytest.raises(InputError, match=message):
            call()
