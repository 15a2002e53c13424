"""What the aerial encoders learn from: the synthetic aerial world, seen by cameras of all kinds.

No camera is a sensor of :mod:`seg_zero.remote_sensing.data.aerial.sensors`, and no place is in one of its tiles.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from seg_zero.remote_sensing.data.aerial.sensors import Sensor, render
from seg_zero.remote_sensing.data.aerial.world import CLASSES, OTHER_NAMES, make_patch

SEED = 41_000
SIDE, CROP = 128, 96  # of a picture, and of what an encoder sees of it
POOL = 150  # pictures
_PLACES = 1 << 50  # the first patch; those of tiles have smaller numbers

# What a class may be called. The encoder learns all of these words, as the web taught CLIP; a training for
# segmentation sees the first of the trained classes alone.
WORDS: dict[str, tuple[str, ...]] = {
    "grass": ("grass", OTHER_NAMES["grass"], "lawn", "low vegetation"),
    "field": ("field", OTHER_NAMES["field"], "farmland", "agriculture"),
    "road": ("road", OTHER_NAMES["road"], "pavement"),
    "roof": ("roof", OTHER_NAMES["roof"], "house", "buildings"),
    "tree": ("tree", OTHER_NAMES["tree"], "forest", "trees"),
    "water": ("water", OTHER_NAMES["water"], "river", "pond"),
    "car": ("car", OTHER_NAMES["car"], "cars"),
    "pool": ("pool", OTHER_NAMES["pool"], "swimming pool"),
}


def random_camera(random: np.random.Generator) -> Sensor:
    """A camera with some ground resolution, mixture of colours, haze, noise, blur and depth of shadows."""
    mixed = random.uniform(0, 0.5)
    matrix = (1 - mixed) * np.eye(3) + mixed * random.dirichlet(np.ones(3), size=3)
    offset = random.uniform(0, 45) + random.uniform(-8, 8, size=3)
    return Sensor(
        "camera",
        metres=float(np.exp(random.uniform(np.log(0.4), np.log(1.0)))),
        matrix=random.uniform(0.7, 1.05) * matrix,
        offset=offset,
        noise=float(random.uniform(3, 9)),
        blur=float(random.uniform(0.4, 0.9)),
        shadow=float(random.uniform(0.55, 0.8)),
    )


@cache
def view(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture SIDE x SIDE x 3 uint8 and its labels, indices of ``CLASSES``."""
    camera = random_camera(np.random.default_rng((SEED, index)))
    return render(make_patch(_PLACES + index, SIDE * camera.metres), camera, SIDE)


def crops(count: int, step: int, stream: int) -> tuple[torch.Tensor, np.ndarray]:
    """Pixels count x 3 x CROP x CROP from 0 to 255, and labels: cut, rotated, mirrored, in another light.

    A function of its arguments alone.
    """
    random = np.random.default_rng((SEED, 1, stream, step))
    images, labels = [], []
    for index in random.choice(POOL, count, replace=count > POOL):
        image, truth = view(int(index))
        top, left = random.integers(0, SIDE - CROP + 1, size=2)
        place = slice(top, top + CROP), slice(left, left + CROP)
        turns, flip = int(random.integers(4)), slice(None, None, -1 if random.random() < 0.5 else 1)
        images.append(np.rot90(image[place], turns)[:, flip])
        labels.append(np.rot90(truth[place], turns)[:, flip])
    pixels = torch.from_numpy(np.stack(images)).float().permute(0, 3, 1, 2)
    return other_light(pixels, random), np.stack(labels)


def other_light(pixels: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Pictures brightened and tinted at random, each in its own way; values stay from 0 to 255."""
    size = (len(pixels), 3, 1, 1)
    gain = torch.from_numpy(random.uniform(0.92, 1.08, size) * random.uniform(0.88, 1.12, (len(pixels), 1, 1, 1)))
    shift = torch.from_numpy(random.uniform(-10, 10, size))
    return (pixels * gain + shift).clamp(0, 255).float()


def rarity() -> np.ndarray:
    """For each class, the root of how seldom a pixel is of it, with a mean of 1."""
    counted = np.bincount(np.concatenate([view(i)[1].ravel() for i in range(100)]), minlength=len(CLASSES))
    weights = (counted.sum() / np.maximum(counted, 1)) ** 0.5
    return weights / weights.mean()
