"""Windows over a tile: full cover, overlap, and a blend that equals the one made in memory at once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from seg_zero.errors import InputError
from seg_zero.remote_sensing.geo.windows import Span, blend_row, spans


@pytest.mark.parametrize(
    ("length", "window", "overlap"),
    [(10, 16, 4), (16, 16, 4), (17, 16, 4), (40, 16, 8), (41, 16, 0), (100, 16, 5), (1, 8, 4), (29, 16, 8)],
)
def test_windows_cover_every_pixel_and_share_enough(length: int, window: int, overlap: int) -> None:
    found = spans(length, window, overlap)
    assert found[0].start == 0 and found[-1].stop == found[-1].done == length
    for one, following in pairwise(found):
        assert one.stop - one.start == window and one.done == following.start
        assert one.after == following.before == one.stop - following.start >= overlap
    for one in found:
        ramp = one.ramp()
        assert len(ramp) == one.stop - one.start and (ramp > 0).all() and ramp.max() <= 1


def test_sizes_that_do_not_fit_are_one_line() -> None:
    for window, overlap in ((0, 0), (16, 9), (16, -1)):
        with pytest.raises(InputError, match=f"--window {window} and --overlap {overlap} do not fit"):
            spans(100, window, overlap)


@pytest.mark.parametrize(("height", "width", "window", "overlap"), [(50, 61, 16, 8), (33, 17, 16, 4), (16, 90, 24, 12)])
def test_the_blend_equals_one_made_at_once(tmp_path: Path, height: int, width: int, window: int, overlap: int) -> None:
    rows, columns = spans(height, window, overlap), spans(width, window, overlap)
    rng = np.random.default_rng(0)
    made = {
        (row.start, column.start): rng.random((2, row.stop - row.start, column.stop - column.start), np.float32)
        for row in rows
        for column in columns
    }
    wanted = np.zeros((2, height, width), np.float64)
    for row in rows:
        for column in columns:
            weights = row.ramp()[:, None] * column.ramp()[None]
            wanted[:, row.start : row.stop, column.start : column.stop] += made[row.start, column.start] * weights

    def scores(row: Span, column: Span) -> np.ndarray:
        return made[row.start, column.start].copy()

    found = np.zeros_like(wanted)
    for number, row in enumerate(rows):
        above = tmp_path / str(number - 1) if number else None
        for column, part in blend_row(row, columns, scores, above, tmp_path / str(number)):
            found[:, row.start : row.done, column.start : column.done] += part
    assert np.allclose(found, wanted, atol=1e-5)
