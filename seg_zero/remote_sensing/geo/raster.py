"""Reads tiles of any size in windows: three bands as 8 bits, with what holds data.

with open_raster("tile.tif") as raster:
    rgb, valid = raster.read(Window(0, 0, 512, 512))
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window

from seg_zero.errors import InputError, one_line

CACHE_BYTES = 64 << 20  # of blocks that GDAL keeps, whatever the size of the tile; rasterio takes bytes
OVERVIEW = 1024  # longer side of the picture that the stretch and the preview are made of
PERCENTILES = (2.0, 98.0)
_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@dataclass(frozen=True)
class Stretch:
    """The values of each band that become 0 and 255."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def apply(self, values: np.ndarray) -> np.ndarray:
        """3 x H x W numbers to H x W x 3 uint8; what is not finite becomes 0."""
        low, high = (np.array(side, np.float32)[:, None, None] for side in (self.low, self.high))
        scaled = (values.astype(np.float32) - low) * (255 / (high - low))
        return (
            np.nan_to_num(scaled, nan=0, posinf=255, neginf=0).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
        )


class Raster:
    """An open tile. bands: the three that are read, from 1; stretch: None where they are 8 bits already."""

    def __init__(self, source: Any, path: Path, bands: Sequence[int] | None, percentiles: tuple[float, float] | None):
        self._source, self.path = source, path
        self.width, self.height = int(source.width), int(source.height)
        self.bands = _bands(source, path, bands)
        self.stretch: Stretch | None = None
        eight = all(source.dtypes[band - 1] == "uint8" for band in self.bands)
        # Read whatever the stretch: a file that is cut off shows here, before anything is labelled.
        values, self.overview_valid = self._overview()
        if percentiles is not None or not eight:
            self.stretch = _stretch(values, self.overview_valid, percentiles or PERCENTILES)
        self.overview = self._picture(values)

    @property
    def crs(self) -> CRS | None:
        found: CRS | None = self._source.crs
        return found

    @property
    def transform(self) -> Affine:
        return self._source.transform

    @property
    def placed(self) -> bool:
        """Whether pixels have a place in the coordinates of the tile."""
        return self.crs is not None or not self.transform.is_identity

    @property
    def control_points(self) -> bool:
        """Whether the tile is placed by points instead of a transform."""
        return bool(self._source.gcps[0]) and self.transform.is_identity

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """H x W x 3 uint8 and bool H x W, False where there is no data. Raises InputError for a damaged file."""
        with _damage(self.path, f"rows {window.row_off} to {window.row_off + window.height}"):
            values = self._source.read(self.bands, window=window)
            valid = self._source.dataset_mask(window=window) > 0
        return self._picture(values), valid & np.isfinite(values).all(axis=0)

    def _overview(self) -> tuple[np.ndarray, np.ndarray]:
        scale = min(1.0, OVERVIEW / max(self.width, self.height))
        height, width = max(1, round(self.height * scale)), max(1, round(self.width * scale))
        with _damage(self.path, "its overview"):
            values = self._source.read(self.bands, out_shape=(3, height, width))
            valid = self._source.dataset_mask(out_shape=(height, width)) > 0
        return values, valid & np.isfinite(values).all(axis=0)

    def _picture(self, values: np.ndarray) -> np.ndarray:
        if self.stretch is None:
            return np.ascontiguousarray(values.transpose(1, 2, 0))
        return self.stretch.apply(values)


def has_place(path: Path) -> tuple[bool, bool]:
    """Whether a tile names a CRS, and whether it has a transform. Raises InputError for what cannot be read."""
    with _opened(path) as source:
        return source.crs is not None, not source.transform.is_identity


@contextmanager
def open_raster(
    path: Path, bands: Sequence[int] | None = None, percentiles: tuple[float, float] | None = None
) -> Iterator[Raster]:
    """Open a tile of any format that GDAL reads.

    bands: the three that are taken for red, green and blue, from 1; None: those that the file calls so, else the first
    three, or the only one three times. percentiles: of the values that become 0 and 255; None: 2 and 98, and no stretch
    where the bands are 8 bits. Raises InputError for what cannot be read, is damaged or has no data.
    """
    with _opened(path) as source:
        yield Raster(source, path, bands, percentiles)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.exists():
        raise InputError(f"tile {path} does not exist; check the path")
    if not path.is_file():
        raise InputError(f"tile {path} is a folder; give one file")
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_PAM_ENABLED="NO"), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            source = rasterio.open(path)
        except RasterioError as error:
            raise InputError(f"tile {path} cannot be read ({one_line(error)}); give a GeoTIFF or a picture") from error
        with source:
            yield source


@contextmanager
def _damage(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except RasterioError as error:
        raise InputError(f"tile {path} is damaged or cut off at {what}; download it again") from error


def _bands(source: Any, path: Path, given: Sequence[int] | None) -> list[int]:
    count = int(source.count)
    if given is not None:
        if len(given) != 3:
            raise InputError(f"--bands names {len(given)} bands; give three, such as 4,3,2")
        for band in given:
            if not 1 <= band <= count:
                raise InputError(f"--bands names band {band}, and {path} has 1 to {count}; choose three of these")
        return list(given)
    colours = list(source.colorinterp)
    if ColorInterp.palette in colours:
        raise InputError(f"tile {path} is a palette picture; convert it with gdal_translate -expand rgb")
    if all(colour in colours for colour in _RGB):
        return [colours.index(colour) + 1 for colour in _RGB]
    own = [number for number, colour in enumerate(colours, 1) if colour != ColorInterp.alpha]
    if not own:
        raise InputError(f"tile {path} has no band but alpha; give a picture")
    return own[:3] if len(own) >= 3 else [own[0]] * 3


def _stretch(values: np.ndarray, valid: np.ndarray, percentiles: tuple[float, float]) -> Stretch:
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        given = ",".join(f"{value:g}" for value in percentiles)
        raise InputError(f"--stretch {given} is no pair of percentiles; give two of 0 to 100, the lower first")
    if not valid.any():
        return Stretch((0.0,) * 3, (1.0,) * 3)  # the tile has no data, or only specks that the overview misses
    ends = [np.percentile(band[valid].astype(np.float64), percentiles) for band in values]
    pairs = [(float(a), float(b) if b > a else float(a) + 1.0) for a, b in ends]
    return Stretch(*(tuple(pair[side] for pair in pairs) for side in (0, 1)))  # type: ignore[arg-type]
