"""J and F against cases computed by hand and against DAVIS's definition written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from seg_zero.errors import InputError
from seg_zero.metrics import ClipScore, VideoMetrics, boundary_accuracy, region_similarity, score_clip
from seg_zero.metrics.video import mask_boundary


def square(top: int, left: int, side: int, shape: tuple[int, int] = (20, 20)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


EMPTY = np.zeros((20, 20), dtype=bool)


@pytest.mark.parametrize(
    ("prediction", "truth", "j", "f"),
    [
        (square(5, 5, 4), square(5, 5, 4), 1.0, 1.0),
        (EMPTY, EMPTY, 1.0, 1.0),
        (square(5, 5, 4), EMPTY, 0.0, 0.0),
        (EMPTY, square(5, 5, 4), 0.0, 0.0),
        # Two columns of four in common, 4 x 6 in the union; a tolerance of ceil(0.008 x 28.3) = 1 pixel.
        (square(5, 7, 4), square(5, 5, 4), 8 / 24, None),
        # Shifted by one pixel: the boundary lies within the tolerance everywhere.
        (square(5, 6, 4), square(5, 5, 4), 12 / 20, 1.0),
        (square(0, 0, 3), square(15, 15, 4), 0.0, 0.0),
    ],
)
def test_cases_by_hand(prediction: np.ndarray, truth: np.ndarray, j: float, f: float | None) -> None:
    assert region_similarity(prediction, truth) == pytest.approx(j)
    if f is not None:
        assert boundary_accuracy(prediction, truth) == pytest.approx(f)


def test_f_counts_boundary_pixels_within_the_tolerance() -> None:
    # Vertical edges on 20 x 20: a half plane ends in column 9 or 12, one column of 20 boundary pixels each, 3 apart.
    # The second mask has a piece at the first one's edge: rows 0 to 9 end in column 9.
    first, second = np.zeros((20, 20), dtype=bool), np.zeros((20, 20), dtype=bool)
    first[:, :10] = True
    second[:10, :10] = True
    second[10:, :13] = True
    # Boundary of the first: column 9, rows 0 to 19. Of the second: column 9, rows 0 to 8; row 9 columns 9 to 12
    # (lower neighbours differ); column 12, rows 10 to 19: 9 + 4 + 10 pixels.
    assert int(mask_boundary(first).sum()) == 20
    assert int(mask_boundary(second).sum()) == 23
    # Within one pixel: of the second, rows 0 to 8, and (9, 9), (9, 10): 11 of 23; of the first, rows 0 to 10: 11 of 20.
    precision, recall = 11 / 23, 11 / 20
    assert boundary_accuracy(second, first) == pytest.approx(2 * precision * recall / (precision + recall))


def _davis(prediction: np.ndarray, truth: np.ndarray) -> float:
    """The definition by dilation with a disk."""
    reach = int(np.ceil(0.008 * np.linalg.norm(truth.shape)))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = x**2 + y**2 <= reach**2
    found, true = mask_boundary(prediction), mask_boundary(truth)
    precision = (found & binary_dilation(true, disk)).sum() / found.sum()
    recall = (true & binary_dilation(found, disk)).sum() / true.sum()
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("seed", range(5))
def test_f_equals_the_definition_by_dilation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (180, 320)  # a tolerance of 3 pixels
    blobs = [square(*rng.integers(0, 120, 2), int(rng.integers(20, 60)), shape) for _ in range(4)]
    prediction, truth = blobs[0] | blobs[1], blobs[0] | blobs[2]
    assert boundary_accuracy(prediction, truth) == pytest.approx(_davis(prediction, truth))


def test_means_go_over_frames_then_over_expressions() -> None:
    truth = square(5, 5, 4)
    long = score_clip([(truth, truth)] * 3)
    short = score_clip([(EMPTY, truth)])
    assert (long, short) == (ClipScore(1.0, 1.0, 3), ClipScore(0.0, 0.0, 1))
    metrics, other = VideoMetrics(), VideoMetrics()
    metrics.add(long)
    other.add(short)
    metrics.merge(other)
    assert metrics.result() == {"J": 0.5, "F": 0.5, "J&F": 0.5, "count": 2}


@pytest.mark.parametrize(
    ("prediction", "truth", "words"),
    [
        (EMPTY, np.zeros((20, 21), dtype=bool), "resize"),
        (EMPTY.astype(np.uint8), EMPTY, "boolean"),
        (np.zeros((1, 20, 20), dtype=bool), EMPTY, "H x W"),
    ],
)
def test_unusable_masks(prediction: np.ndarray, truth: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        region_similarity(prediction, truth)
    with pytest.raises(InputError, match=words):
        boundary_accuracy(prediction, truth)


def test_nothing_to_score() -> None:
    with pytest.raises(InputError, match="no frames"):
        score_clip([])
    with pytest.raises(InputError, match="no expressions"):
        VideoMetrics().result()
