"""Regions of a label map as polygons, in the coordinates of the tile or of WGS 84.

GDAL vectorises the file line by line; the polygons themselves, not the pixels, decide how much memory it takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.features
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.transform import Affine
from rasterio.warp import transform as warp_points

from seg_zero.errors import InputError
from seg_zero.remote_sensing.geo.raster import CACHE_BYTES

WGS84 = "EPSG:4326"
RADIUS = 6_371_007.2  # of the sphere with the area of WGS 84's ellipsoid, in metres
_AT_ONCE = 20_000  # points that are transformed together
Ring = np.ndarray  # float64 N x 2, x and y, the first point again at the end


@dataclass(frozen=True)
class Region:
    """A connected region of one label. rings: its outside counter-clockwise, then its holes clockwise; pixels: its
    area in pixels; square_metres: None without a CRS."""

    value: int
    rings: tuple[Ring, ...]
    pixels: int
    square_metres: float | None


def signed_area(ring: Ring) -> float:
    """Positive for a counter-clockwise ring with y upwards."""
    centred = ring - ring[0]  # coordinates of millions would lose the digits that the area is made of
    x, y = centred[:, 0], centred[:, 1]
    return 0.5 * float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())


def spherical_area(ring: Ring) -> float:
    """Square metres inside a ring of longitudes and latitudes in degrees, positive if counter-clockwise."""
    longitude, latitude = np.radians(ring[:, 0]), np.radians(ring[:, 1])
    width = np.diff(longitude)
    sines = 2 + np.sin(latitude[:-1]) + np.sin(latitude[1:])
    return -0.5 * RADIUS**2 * float((width * sines).sum())


def regions(path: Path, minimal: int = 1) -> Iterator[Region]:
    """The regions of a label map in the coordinates of its file, without nodata and those below ``minimal`` pixels."""
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), rasterio.open(path) as source:
        crs: CRS | None = source.crs
        transform: Affine = source.transform
        # Upright coordinates make rings turn the other way than rows that count downwards.
        per_pixel = abs(transform.determinant)
        band = rasterio.band(source, 1)
        for shape, value in rasterio.features.shapes(band, mask=band, connectivity=4, transform=transform):
            rings = [np.array(ring, np.float64) for ring in shape["coordinates"]]
            areas = [signed_area(ring) for ring in rings]
            pixels = round((abs(areas[0]) - sum(abs(area) for area in areas[1:])) / per_pixel)
            if pixels < minimal:
                continue
            turned = [
                ring if (area > 0) == (number == 0) else ring[::-1]
                for number, (ring, area) in enumerate(zip(rings, areas, strict=True))
            ]
            yield Region(int(value), tuple(turned), pixels, _square_metres(turned, crs))


def _square_metres(rings: Sequence[Ring], crs: CRS | None) -> float | None:
    if crs is None:
        return None
    if crs.is_geographic:
        return sum(spherical_area(ring) for ring in rings)
    try:
        metres = float(crs.linear_units_factor[1])
    except CRSError:
        return None
    return sum(signed_area(ring) for ring in rings) * metres**2


def in_wgs84(found: Iterator[Region], crs: CRS, what: str) -> Iterator[Region]:
    """The same regions with longitudes and latitudes in degrees. Raises InputError where the CRS has none."""
    for batch in _batches(found):
        points = np.concatenate([ring for region in batch for ring in region.rings])
        try:
            xs, ys = warp_points(crs, WGS84, points[:, 0], points[:, 1])
        except Exception as error:  # GDAL's errors have no common type
            raise InputError(f"{what}: its CRS has no way to WGS 84 ({error}); leave out geojson") from error
        moved = np.stack([xs, ys], axis=1)
        if not np.isfinite(moved).all():
            raise InputError(f"{what}: its coordinates lie outside its CRS; check the CRS, or leave out geojson")
        start = 0
        for region in batch:
            rings = []
            for number, ring in enumerate(region.rings):
                turned = moved[start : start + len(ring)]
                start += len(ring)
                # Some systems have axes that turn the other way.
                rings.append(turned if (signed_area(turned) >= 0) == (number == 0) else turned[::-1])
            yield Region(region.value, tuple(rings), region.pixels, region.square_metres)


def _batches(found: Iterator[Region]) -> Iterator[list[Region]]:
    """Regions together with about ``_AT_ONCE`` points: one of a large tile may have as many as thousands of others."""
    batch: list[Region] = []
    points = 0
    for region in found:
        batch.append(region)
        points += sum(len(ring) for ring in region.rings)
        if points >= _AT_ONCE:
            yield batch
            batch, points = [], 0
    if batch:
        yield batch


def decimals(region_pixel: float) -> int:
    """Decimals of degrees that keep a hundredth of a pixel of so many metres."""
    return min(12, max(6, 2 + math.ceil(-math.log10(max(region_pixel, 1e-6) / 111_000))))
