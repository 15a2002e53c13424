"""Small folders in the layouts of the remote-sensing data sets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from seg_zero.remote_sensing.data.datasets import DATASETS, Place

SIZE = (6, 4)  # width, height


def save_picture(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "olive").save(path)


def save_labels(path: Path, values: Sequence[int] | np.ndarray, size: tuple[int, int] = SIZE) -> None:
    """A map whose first pixels hold the values, and the rest the first of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = np.full(size[0] * size[1], values[0], dtype=np.uint8)
    made[: len(values)] = values
    Image.fromarray(made.reshape(size[1], size[0])).save(path)


def save_colours(path: Path, colours: Sequence[tuple[int, int, int]], size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = np.tile(np.array(colours[0], np.uint8), (size[0] * size[1], 1))
    made[: len(colours)] = colours
    Image.fromarray(made.reshape(size[1], size[0], 3)).save(path)


def make_layout(name: str, root: Path, places: Sequence[Place], ending: str = ".png") -> int:
    """A data set in a folder of data sets: a picture at each place, with a map of values 0, 1 and 255.

    Returns the number of pictures.
    """
    folder = root / DATASETS[name].folders[0]
    for number, place in enumerate(places):
        images = folder / place.images.replace("*", "one")
        save_picture(Path(os.path.normpath(images)) / f"tile_{number}{place.image_end}{ending}")
        truths = Path(os.path.normpath(images / place.truths))
        save_labels(truths / f"tile_{number}{place.truth_end}", [0, 1, 255])
    return len(places)
