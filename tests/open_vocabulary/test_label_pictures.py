"""Pictures of labels: what the legend counts."""

from __future__ import annotations

import numpy as np
from PIL import Image

from seg_zero.open_vocabulary.pictures import draw_labels


def test_pixels_without_data_are_no_part_of_the_legend() -> None:
    image, names = Image.new("RGB", (400, 400)), ["", "road", "water"]
    whole = np.ones((400, 400), np.int64)
    whole[:, 200:] = 2
    part = whole.copy()
    part[:100] = 0

    def legend(label_map: np.ndarray, count_zero: bool) -> np.ndarray:
        return np.asarray(draw_labels(image, label_map, names, count_zero=count_zero))[:, 400:]

    assert np.array_equal(legend(part, False), legend(whole, True)), "half each of what has data"
    assert not np.array_equal(legend(part, True), legend(part, False))
