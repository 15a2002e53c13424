"""Tiles as training sees them: scaled, cropped, recoloured as in SSD (arXiv 1512.02325), flipped."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from seg_zero.remote_sensing.model.loss import IGNORE
from seg_zero.remote_sensing.training.settings import AugmentationSettings

PADDING = 128
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = 32, (0.5, 1.5), (0.5, 1.5), 18
_HUES = 180  # values of a hue in OpenCV's bytes
_Step = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def augmented(
    image: np.ndarray, labels: np.ndarray, settings: AugmentationSettings, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """H x W x 3 and H x W uint8 to squares of ``settings.side``; what lies outside the tile is grey and ignored."""
    image, labels = shrunk(image, labels, settings)
    image, labels = cropped(image, labels, settings.side, random)
    if settings.colour:
        image = recoloured(image, random)
    if random.random() < settings.flip:
        image, labels = image[:, ::-1], labels[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(labels)


def shrunk(image: np.ndarray, labels: np.ndarray, settings: AugmentationSettings) -> tuple[np.ndarray, np.ndarray]:
    """The shorter side to ``side``, or less where the longer would pass ``max_side``; labels by nearest neighbour."""
    height, width = labels.shape
    factor = min(settings.side / min(height, width), settings.max_side / max(height, width))
    size = (max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5)))
    if size == (width, height):
        return image, labels
    scaled = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(scaled), np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))


def cropped(
    image: np.ndarray, labels: np.ndarray, side: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A random square; a tile that is smaller is padded below and to the right."""
    height, width = labels.shape
    top = int(random.integers(0, max(0, height - side) + 1))
    left = int(random.integers(0, max(0, width - side) + 1))
    image, labels = image[top : top + side, left : left + side], labels[top : top + side, left : left + side]
    below, right = side - labels.shape[0], side - labels.shape[1]
    if below or right:
        image = np.pad(image, ((0, below), (0, right), (0, 0)), constant_values=PADDING)
        labels = np.pad(labels, ((0, below), (0, right)), constant_values=IGNORE)
    return image, labels


def recoloured(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """SSD's jitter: brightness +-32, contrast and saturation by 0.5 to 1.5, hue +-18 of 180, each with probability 1/2.

    Contrast comes after brightness or, as often, last.
    """
    image = _maybe(image, random, _brighter)
    early = random.random() < 0.5
    for step in (_contrasted, _saturated, _turned) if early else (_saturated, _turned, _contrasted):
        image = _maybe(image, random, step)
    return image


def _maybe(image: np.ndarray, random: np.random.Generator, step: _Step) -> np.ndarray:
    return step(image, random) if random.random() < 0.5 else image


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


def _brighter(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return _bytes(image.astype(np.float32) + random.uniform(-_BRIGHTNESS, _BRIGHTNESS))


def _contrasted(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return _bytes(image.astype(np.float32) * random.uniform(*_CONTRAST))


def _saturated(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 1] = _bytes(hsv[..., 1].astype(np.float32) * random.uniform(*_SATURATION))
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _turned(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int32) + int(random.integers(-_HUE, _HUE + 1))) % _HUES
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
