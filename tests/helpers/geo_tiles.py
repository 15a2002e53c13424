"""Small GeoTIFFs whose brightest band is the class, and what labels them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import Affine, from_origin

LABELS = ["building", "road", "water"]
UTM = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_400_000, 0.5, 0.5)}


class BrightestBand:
    """Scores of three classes: the bands, each window's a little different, so that blending shows."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.asked = 0
        self.fails_at = fails_at

    def probabilities(self, image: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        self.asked += 1
        if self.asked == self.fails_at:
            raise KeyboardInterrupt
        mean = image.mean(axis=(0, 1), keepdims=True)
        return np.moveaxis(1 + (image - 0.3 * mean) / 255, 2, 0).astype(np.float32)


def waves(height: int, width: int, bands: int = 3) -> np.ndarray:
    """uint8 bands x H x W, smooth regions in which one band is the brightest."""
    y, x = np.mgrid[:height, :width]
    found = [128 + 90 * np.sin(x / (17 + 5 * band) + band) * np.cos(y / (23 - 3 * band)) for band in range(bands)]
    return np.stack(found).clip(1, 255).astype(np.uint8)


def write_tile(path: Path, values: np.ndarray, **profile: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = values.shape
    given = {"driver": "GTiff", "width": width, "height": height, "count": bands, "dtype": values.dtype, **UTM}
    given |= {"tiled": True, "blockxsize": 64, "blockysize": 64, **profile}
    with rasterio.open(path, "w", **given) as target:
        target.write(values)
    return path


ROTATED = Affine.translation(500_000, 5_400_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)
