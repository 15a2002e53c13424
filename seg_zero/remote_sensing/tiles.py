"""What training and evaluation ask of a data set: pictures with a label for each pixel."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class LabelledTiles(Protocol):
    """A sequence of tiles. ``classes``: the name of each label value, from 0."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> np.ndarray:
        """H x W x 3 uint8, RGB."""
        ...

    def labels(self, index: int) -> np.ndarray:
        """H x W uint8: indices of ``classes``; 255 is ignored."""
        ...

    def name(self, index: int) -> str: ...
