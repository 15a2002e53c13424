"""A small remote-sensing network, and tiles that it can learn in seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from seg_zero.encoders.dense_clip import ClipSettings, VisionSettings
from seg_zero.remote_sensing.model.settings import CatSegSettings, ModelSettings

SMALL = ModelSettings(
    clip=ClipSettings(VisionSettings(32, 32, 8, 16, 3, (0, 1), 2), 16, 16, 1, 2),
    remote=VisionSettings(32, 64, 16, 16, 3, (0, 1), 2),
    dino=VisionSettings(32, 32, 4, 16, 3, (0, 1), 2),
    layers=1,
    hidden=16,
    heads=2,
    guide_widths=(8, 8),
    guide_channels=(4, 4),
    decoder=(16, 16),
    cat_seg=CatSegSettings(heads=2, window=2, pad_length=6),
)


def small(**changes: Any) -> ModelSettings:
    return replace(SMALL, **changes)


class Halves:
    """Tiles whose left part is green "grass" and whose right part is blue "water"; the first row does not count."""

    classes = ("grass", "water")

    def __init__(self, count: int = 6, height: int = 40, width: int = 48) -> None:
        self.count, self.size = count, (height, width)

    def __len__(self) -> int:
        return self.count

    def _border(self, index: int) -> int:
        return self.size[1] * (index + 2) // (self.count + 3)

    def image(self, index: int) -> np.ndarray:
        picture = np.zeros((*self.size, 3), np.uint8)
        picture[:, : self._border(index), 1] = 200
        picture[:, self._border(index) :, 2] = 200
        return picture

    def labels(self, index: int) -> np.ndarray:
        found = np.zeros(self.size, np.uint8)
        found[:, self._border(index) :] = 1
        found[0] = 255
        return found

    def name(self, index: int) -> str:
        return f"tile_{index}"
