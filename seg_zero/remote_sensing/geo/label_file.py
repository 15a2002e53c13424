"""Label maps as GeoTIFF: a palette, the names of the classes in tags, the place of the tile."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine
from rasterio.windows import Window

from seg_zero.files import whole_file
from seg_zero.open_vocabulary.pictures import palette
from seg_zero.remote_sensing.geo.raster import CACHE_BYTES

_BLOCK = 256  # side of the file's blocks


def write_labels(
    path: Path,
    rows: Iterable[np.ndarray],
    size: tuple[int, int],
    labels: Sequence[str],
    crs: CRS | None,
    transform: Affine,
) -> None:
    """Write rows of labels (uint8 n x width, from the top) of a tile of ``size`` (width, height).

    0 is nodata and transparent in most programs; the band's tag CLASS_1 is the name of value 1, and CLASSES holds
    all as JSON.
    """
    colours: dict[int, tuple[int, int, int, int]] = {0: (0, 0, 0, 0)}
    for value, (red, green, blue) in enumerate(palette(len(labels) + 1).tolist()[1:], 1):
        colours[value] = (red, green, blue, 255)
    profile = {
        "driver": "GTiff", "width": size[0], "height": size[1], "count": 1, "dtype": "uint8", "nodata": 0, "crs": crs,
        "transform": transform, "tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK, "compress": "deflate",
        "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    environment = rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_PAM_ENABLED="NO")
    with whole_file(path) as partial, environment, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(partial, "w", **profile) as target:
            target.write_colormap(1, colours)
            target.update_tags(CLASSES=json.dumps(list(labels), ensure_ascii=False))
            target.update_tags(1, **{f"CLASS_{value}": name for value, name in enumerate(labels, 1)})
            top = 0
            for strip in _whole_blocks(rows):
                target.write(strip, 1, window=Window(0, top, size[0], len(strip)))
                top += len(strip)


def _whole_blocks(rows: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """The same rows in strips that end where the file's blocks end, so that none is compressed twice."""
    waiting: list[np.ndarray] = []
    for strip in rows:
        waiting.append(strip)
        height = sum(len(part) for part in waiting)
        if height >= _BLOCK:
            joined = np.concatenate(waiting)
            whole = height // _BLOCK * _BLOCK
            yield joined[:whole]
            waiting = [joined[whole:]] if whole < height else []
    if waiting:
        yield np.concatenate(waiting)


def read_classes(path: Path) -> list[str]:
    """The names of values 1, 2, ... of a file of :func:`write_labels`."""
    with rasterio.open(path) as source:
        found: list[str] = json.loads(source.tags()["CLASSES"])
        return found
