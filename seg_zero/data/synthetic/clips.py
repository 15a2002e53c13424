"""Synthetic clips: the shapes of :mod:`seg_zero.data.synthetic.scenes` in motion, with exact masks of each frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from seg_zero.data.synthetic.scenes import COLOURS, SceneObject, background, make_scene, shape_mask

MAX_SPEED = 0.03  # of the side, per frame and axis


@dataclass(frozen=True)
class ClipFrame:
    """image: RGB; masks: boolean N x H x W, the visible part of each object; an occluded one may be empty."""

    image: Image.Image
    masks: np.ndarray


@dataclass(frozen=True)
class Clip:
    """A clip without end: frame ``i`` depends on the seed and ``i`` alone.

    objects: as they lie in frame 0 unless occluded; later ones pass in front of earlier ones.
    velocities: float N x 2, pixels per frame (x, y); an object bounces off the sides of the image.
    """

    seed: int
    side: int
    background: np.ndarray
    objects: tuple[SceneObject, ...]
    velocities: np.ndarray

    def frame(self, index: int) -> ClipFrame:
        rng = np.random.default_rng((self.seed, index, 1))
        canvas = self.background
        masks = np.zeros((len(self.objects), self.side, self.side), dtype=bool)
        for number, (item, velocity) in enumerate(zip(self.objects, self.velocities, strict=True)):
            low, high = item.radius + 1, self.side - item.radius - 1
            cx, cy = (
                _bounced(start + speed * index, low, high)
                for start, speed in zip((item.cx, item.cy), velocity, strict=True)
            )
            mask = shape_mask(item.shape, cx, cy, item.radius, self.side)
            paint = np.array(COLOURS[item.colour]) + rng.normal(0, 6, size=(self.side, self.side, 1))
            canvas = np.where(mask[..., None], paint, canvas)
            masks &= ~mask
            masks[number] = mask
        return ClipFrame(Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8)), masks)


def make_clip(seed: int, side: int = 112, shapes: int | None = None, max_speed: float = MAX_SPEED) -> Clip:
    """A clip of 2 to 5 (or ``shapes``) moving shapes.

    max_speed: of the side, per frame and axis; each shape has a speed of its own up to it.
    """
    rng = np.random.default_rng((seed, 0, 0))
    scene = make_scene(rng, side, shapes)
    velocities = rng.uniform(-max_speed, max_speed, size=(len(scene.objects), 2)) * side
    return Clip(seed, side, background(rng, side), scene.objects, velocities)


def _bounced(position: float, low: float, high: float) -> float:
    """The place of something that moves on a line between two walls."""
    span = high - low
    along = (position - low) % (2 * span)
    return low + min(along, 2 * span - along)
