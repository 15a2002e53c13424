"""Masks to boxes and points by hand, and COCO segmentations of every form to masks."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from seg_zero.masks import decode_mask, encode_mask, mask_to_prompt_object, segmentation_to_mask, touches_mask


def blank(height: int, width: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A mask of boxes x1, y1, x2, y2, all inclusive."""
    mask = np.zeros((height, width), dtype=bool)
    for x1, y1, x2, y2 in boxes:
        mask[y1 : y2 + 1, x1 : x2 + 1] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "box", "points"),
    [
        # Depths are 1 at the rim, 2, then 3 in the centre; the farther half is the rim alone, corner first.
        (blank(10, 12, (3, 2, 7, 6)), (3, 2, 7, 6), ((5, 4), (3, 2))),
        # The left edge of the picture is an edge of the object too.
        (blank(10, 12, (0, 2, 4, 6)), (0, 2, 4, 6), ((2, 4), (0, 2))),
        (blank(7, 7, (0, 0, 6, 6)), (0, 0, 6, 6), ((3, 3), None)),
        (blank(4, 9, (8, 3, 8, 3)), (8, 3, 8, 3), ((8, 3), (8, 3))),
        # A line is 1 deep everywhere: the first pixel, and the first of those at least 2 away.
        (blank(3, 9, (2, 1, 6, 1)), (2, 1, 6, 1), ((2, 1), (4, 1))),
        # The larger of two parts is deeper; of what is farther, the middle of the other part is deepest.
        (blank(6, 14, (0, 0, 4, 4), (10, 1, 12, 3)), (0, 0, 12, 4), ((2, 2), (11, 2))),
        # A foot of 7 x 7 is 4 deep; an arm of about as many pixels to its right, 3 high, is 2 deep in its middle line.
        (blank(9, 26, (1, 1, 7, 7), (8, 5, 24, 7)), (1, 1, 24, 7), ((4, 4), (8, 6))),
    ],
    ids=["square", "square at the border", "whole picture", "pixel", "line", "two parts", "L"],
)
def test_box_and_points_by_hand(mask: np.ndarray, box: Any, points: Any) -> None:
    found = mask_to_prompt_object(mask)
    assert found.box == box
    assert found.points[0] == points[0]
    if points[1] is not None:
        assert found.points[1] == points[1]
    assert all(mask[int(y), int(x)] for x, y in found.points)


@pytest.mark.parametrize(
    ("mask", "points"),
    [
        # 3 deep in the centre as under our rule, but only the 12 pixels farther than the median are eligible.
        (blank(10, 12, (3, 2, 7, 6)), ((5, 4), (3, 2))),
        # The left edge does not bound it: column 0 is as deep as the rows above and below allow.
        (blank(10, 12, (0, 2, 4, 6)), ((0, 4), (3, 3))),
        # Distances 0, 1, 2, 3, 4 from the first pixel: beyond the median of 2 are the last two.
        (blank(3, 9, (2, 1, 6, 1)), ((2, 1), (5, 1))),
        # Nothing is farther than the median of 0.
        (blank(4, 9, (8, 3, 8, 3)), ((8, 3), (8, 3))),
    ],
    ids=["square", "square at the border", "line", "pixel"],
)
def test_published_points_by_hand(mask: np.ndarray, points: Any) -> None:
    assert mask_to_prompt_object(mask, "published").points == points
    assert mask_to_prompt_object(mask, "published").box == mask_to_prompt_object(mask).box


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 20), st.integers(2, 20), st.floats(0.3, 0.99), st.integers(0, 1000))
def test_published_points_do_not_depend_on_cropping(height: int, width: int, density: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < density
    if not mask.any() or mask.all():
        return
    depth = distance_transform_edt(mask) * mask
    (x1, y1), (x2, y2) = ((int(x), int(y)) for x, y in mask_to_prompt_object(mask, "published").points)
    assert (y1, x1) == np.unravel_index(depth.argmax(), depth.shape)
    ys, xs = np.nonzero(mask)
    far = (distance := np.hypot(xs - x1, ys - y1)) > np.median(distance)
    if far.any():
        assert depth[y2, x2] == depth[ys[far], xs[far]].max() and np.hypot(x2 - x1, y2 - y1) > np.median(distance)


def test_points_of_a_photo_sized_mask_take_milliseconds() -> None:
    y, x = np.mgrid[:480, :640]
    mask = ((x - 320) / 300) ** 2 + ((y - 240) / 220) ** 2 < 1
    start = time.perf_counter()
    found = mask_to_prompt_object(mask)
    assert time.perf_counter() - start < 0.25
    assert found.box == (21, 21, 619, 459)
    # A wide ellipse is deepest along its long axis; the second point lies well apart on it.
    (x1, y1), (x2, y2) = found.points
    assert abs(y1 - 240) < 3 and abs(y2 - 240) < 3 and abs(x1 - x2) > 100


def test_empty_mask_has_no_points() -> None:
    with pytest.raises(ValueError, match="empty"):
        mask_to_prompt_object(blank(4, 4))


@pytest.mark.parametrize(
    ("segmentation", "mask"),
    [
        ([[2, 1, 6, 1, 6, 4, 2, 4]], blank(6, 8, (2, 1, 5, 3))),
        ([[0, 0, 2, 0, 2, 2, 0, 2], [5, 3, 8, 3, 8, 6, 5, 6]], blank(6, 8, (0, 0, 1, 1), (5, 3, 7, 5))),
        ([[0, 0, 2, 0, 2, 2, 0, 2], [5, 3, 8, 3]], blank(6, 8, (0, 0, 1, 1))),  # a line encloses nothing
        # Runs go down the columns: 6 pixels of column 0 and 1 of column 1 are off, then 2 are on.
        ({"size": [6, 8], "counts": [7, 2, 39]}, blank(6, 8, (1, 1, 1, 2))),
        ({"size": [6, 8], "counts": "72W1"}, blank(6, 8, (1, 1, 1, 2))),
        ({"size": [6, 8], "counts": b"72W1"}, blank(6, 8, (1, 1, 1, 2))),
        ({"size": [6, 8], "counts": [48]}, blank(6, 8)),
    ],
    ids=["polygon", "two polygons", "polygon and line", "plain runs", "compressed runs", "bytes", "empty runs"],
)
def test_segmentations_by_hand(segmentation: Any, mask: np.ndarray) -> None:
    assert (segmentation_to_mask(segmentation, 6, 8) == mask).all()


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([], "no polygon"),
        ([[1, 1, 2, 2]], "no polygon"),
        ([[1, 1, 2, 2, 3]], "x, y pairs"),
        ([[1, 1, 2, 2, 3, float("nan")]], "x, y pairs"),
        ([[1, 1, 2, 2, 3, "three"]], "not a number"),
        ([[[1, 1], [2, 2], [3, 1]]], "x, y pairs"),
        ([[2, 1, 12, 1, 12, 4, 2, 4]], "x=2 to 12, but the image is 8x6"),
        ([[2, -30, 6, 1, 6, 4]], "y=-30"),
        ("72W1", "is a str"),
        (None, "is a NoneType"),
        ({"counts": "72W1"}, "size None"),
        ({"size": 48, "counts": "72W1"}, "size 48"),
        ({"size": [8, 6], "counts": "72W1"}, "size [8, 6]"),
        ({"size": [6, 8], "counts": [7, 2]}, "cover 9 pixels"),
        ({"size": [6, 8], "counts": [7, -2, 43]}, "whole numbers"),
        ({"size": [6, 8], "counts": [7, 2.5, 38.5]}, "whole numbers"),
        ({"size": [6, 8], "counts": "72"}, "cover 9 pixels"),
        ({"size": [6, 8], "counts": "72W"}, "end early"),
        ({"size": [6, 8], "counts": "7 2"}, "character ' '"),
        ({"size": [6, 8], "counts": "7é"}, "neither"),
        ({"size": [6, 8]}, "neither"),
    ],
)
def test_malformed_segmentations_are_named(segmentation: Any, words: str) -> None:
    with pytest.raises(ValueError) as error:
        segmentation_to_mask(segmentation, 6, 8)
    assert words in str(error.value)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 70), st.floats(0, 1), st.integers(0, 1000))
def test_run_lengths_come_back(height: int, width: int, density: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < density
    assert (decode_mask(encode_mask(mask)) == mask).all()
    assert (segmentation_to_mask(encode_mask(mask), height, width) == mask).all()


@pytest.mark.parametrize(
    ("point", "touches"),
    [
        ((0, 0), True),
        ((2.9, 1.9), True),  # a pixel beside
        ((3, 0), False),
        ((-0.5, 0), True),  # off the image, its pixel is beside the mask
        ((-1, -1), True),
        ((-1.5, 0), False),
        ((0, -2), False),
        ((-5, 1), False),
        ((1, -400), False),
        ((10, 8), True),  # on the far edges
        ((10.9, 8.9), True),
        ((11, 8), False),
        ((10, 9), False),
        ((1e9, 7), False),
        ((math.nan, 0), False),
        ((0, -math.inf), False),
    ],
)
def test_a_point_touches_a_mask_within_a_pixel(point: tuple[float, float], touches: bool) -> None:
    mask = np.zeros((8, 10), dtype=bool)
    mask[:1, :2] = mask[7, 9] = True
    assert touches_mask(*point, mask) is touches
    assert touches_mask(*point, np.ones((0, 0), dtype=bool)) is False
