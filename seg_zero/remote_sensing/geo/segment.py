"""A tile in, its labels out: GeoTIFF, polygons, a picture to look at.

result = segment_tile(lambda: segmenter, "tile.tif", ["building", "road", "water"], "out")
result.files["labels"], result.areas
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.windows import Window

from seg_zero.errors import InputError, one_line
from seg_zero.files import check_folder_place, make_folder, write_image, write_json
from seg_zero.open_vocabulary.labels import parse_labels
from seg_zero.open_vocabulary.pictures import draw_labels
from seg_zero.remote_sensing.cost_pictures import MOST_NAMES, cost_sheet
from seg_zero.remote_sensing.geo.label_file import write_labels
from seg_zero.remote_sensing.geo.label_tile import (
    LabelledRows,
    Progress,
    TileSettings,
    label_raster,
    manifest,
    read_seen,
)
from seg_zero.remote_sensing.geo.polygons import decimals, in_wgs84, regions
from seg_zero.remote_sensing.geo.raster import Raster, open_raster
from seg_zero.remote_sensing.geo.vector_files import write_geojson, write_geopackage
from seg_zero.remote_sensing.labelling import CostMapper, TileLabeller

COSTS = "costs"
OUTPUTS = {
    "labels": "_labels.tif",
    "geojson": ".geojson",
    "gpkg": ".gpkg",
    "preview": "_preview.png",
    COSTS: "_costs.png",
}
DEFAULT_OUTPUTS = ("labels", "geojson", "preview")


@dataclass(frozen=True)
class TileResult:
    """files: by output; areas: the fraction of the pixels with data that each label covers; polygons: how many;
    size: width and height."""

    files: dict[str, Path]
    areas: dict[str, float]
    data: float
    size: tuple[int, int]
    polygons: int | None = None

    def record(self) -> dict[str, Any]:
        return {
            "size": list(self.size),
            "areas": self.areas,
            "data": self.data,
            "polygons": self.polygons,
            "files": {name: path.name for name, path in self.files.items()},
        }


def segment_tile(
    load: Callable[[], TileLabeller],
    tile: str | Path,
    labels: Sequence[str],
    out: str | Path,
    settings: TileSettings | None = None,
    *,
    outputs: Sequence[str] = DEFAULT_OUTPUTS,
    crs: str | None = None,
    minimal: int = 16,
    model: dict[str, Any] | None = None,
    progress: Progress = lambda done, total, old: None,
) -> TileResult:
    """Label a tile of any size into the folder ``out``; an interrupted call goes on when it is repeated.

    load: gives what labels, called only if there is something to label. outputs: of :data:`OUTPUTS`. crs: of a tile
    that names none, such as EPSG:32633. minimal: pixels of a polygon. model: what identifies the labeller. The output
    "costs", the cost maps, is for tiles that fit one window, and for labellers that have such maps (CostMapper).

    Files are written when all is labelled, each whole or not at all. Raises InputError for a tile that cannot be read,
    is damaged or holds no data, and for outputs that it does not allow.
    """
    tile, out, chosen = Path(tile), Path(out), settings or TileSettings()
    words = [label.name for label in parse_labels(list(labels))]
    for name in outputs:
        if name not in OUTPUTS:
            raise InputError(f"--outputs {name} is unknown; choose of {', '.join(OUTPUTS)}")
    if minimal < 1:
        raise InputError(f"--min_pixels {minimal} must be at least 1")
    check_folder_place(out)
    with open_raster(tile, chosen.bands, chosen.stretch) as raster:
        system, costs = _system(raster, crs, outputs), None
        if COSTS in outputs:
            _check_costs(raster, chosen, words)
            labeller = load()
            if not isinstance(labeller, CostMapper):
                raise InputError(f"--outputs {COSTS} needs a trained network (--method rskt); leave it out")
            load, costs = (lambda: labeller), labeller
        make_folder(out)
        folder = out / f".{tile.name}.parts"
        try:
            rows = label_raster(load, raster, words, chosen, folder, model or {}, progress)
            counts = _counts(rows, len(words))
            if not counts[1:].any():
                if raster.overview_valid.any():
                    raise InputError(f"tile {tile}: no label is sure enough anywhere; lower --denoising")
                raise InputError(f"tile {tile} holds no data: every pixel is nodata or transparent; check the file")
        except InputError:
            LabelledRows(folder, (), (), 0).remove()
            raise
        files = {name: out / f"{tile.stem}{ending}" for name, ending in OUTPUTS.items() if name in outputs}
        polygons = _write(files, rows, raster, words, system, minimal, folder)
        if costs is not None:
            write_image(files[COSTS], _costs(costs, raster, words))
    data = int(counts[1:].sum())
    areas = {word: int(count) / data for word, count in zip(words, counts[1:], strict=True)}
    result = TileResult(files, areas, data / int(counts.sum()), (raster.width, raster.height), polygons)
    made = manifest(tile, words, chosen, model or {})
    write_json(out / f"{tile.stem}.json", {**result.record(), "crs": None if system is None else str(system), **made})
    rows.remove()
    return result


def _system(raster: Raster, given: str | None, outputs: Iterable[str]) -> CRS | None:
    """The CRS of the outputs. Raises InputError where one is missing or stands in the way."""
    own = raster.crs
    if given is not None:
        try:
            named = CRS.from_user_input(given)
        except CRSError as error:
            raise InputError(f"--crs {given} is no CRS ({one_line(error)}); give one such as EPSG:32633") from error
        if own is not None and own != named:
            raise InputError(f"--crs {given}: tile {raster.path} is in {own}; leave out --crs, or use gdalwarp")
        own = named
    if raster.control_points:
        raise InputError(f"tile {raster.path} is placed by control points; give it a transform with gdalwarp")
    if "geojson" in outputs and (own is None or not raster.placed):
        raise InputError(
            f"tile {raster.path} has no {'CRS' if own is None else 'transform'}, and geojson is in WGS 84; "
            f"{'give --crs, or ' if own is None and raster.placed else ''}choose --outputs labels,gpkg,preview"
        )
    return own


def _check_costs(raster: Raster, settings: TileSettings, words: Sequence[str]) -> None:
    """Raises InputError where cost maps cannot be drawn as the model sees them: all of the tile at once."""
    if max(raster.width, raster.height) > settings.window:
        raise InputError(
            f"tile {raster.path} has {raster.width}x{raster.height} pixels, and cost maps are of one window of "
            f"{settings.window}; cut out a part (gdal_translate -srcwin), raise --window, or leave out {COSTS}"
        )
    if len(words) > MOST_NAMES:
        raise InputError(f"--outputs {COSTS} draws at most {MOST_NAMES} labels, not {len(words)}; give fewer")


def _costs(labeller: CostMapper, raster: Raster, words: Sequence[str]) -> Image.Image:
    picture, _ = read_seen(raster, Window(0, 0, raster.width, raster.height))
    return cost_sheet(picture, labeller.cost_maps(picture, words), words)


def _counts(rows: LabelledRows, labels: int) -> np.ndarray:
    total = np.zeros(labels + 1, np.int64)
    for strip in rows:
        total += np.bincount(strip.ravel(), minlength=labels + 1)
    return total


def _write(
    files: dict[str, Path],
    rows: LabelledRows,
    raster: Raster,
    words: Sequence[str],
    crs: CRS | None,
    minimal: int,
    folder: Path,
) -> int | None:
    size = (raster.width, raster.height)
    vectors = [name for name in ("geojson", "gpkg") if name in files]
    place = files.get("labels", folder / "labels.tif")
    if vectors or "labels" in files:
        write_labels(place, rows, size, words, crs, raster.transform)
    polygons: int | None = None
    if "gpkg" in files:
        polygons = write_geopackage(files["gpkg"], regions(place, minimal), words, crs)
    if "geojson" in files:
        assert crs is not None
        moved = in_wgs84(regions(place, minimal), crs, f"tile {raster.path}")
        polygons = write_geojson(files["geojson"], moved, words, decimals(_pixel_metres(raster, crs)))
    if "preview" in files:
        write_image(files["preview"], _preview(rows, raster, words))
    return polygons


def _pixel_metres(raster: Raster, crs: CRS) -> float:
    side = abs(raster.transform.determinant) ** 0.5
    if crs.is_geographic:
        return float(side) * 111_000
    try:
        return float(side) * float(crs.linear_units_factor[1])
    except CRSError:
        return float(side)


def _preview(rows: LabelledRows, raster: Raster, words: Sequence[str]) -> Image.Image:
    """The overview of the tile in the labels' colours, with a legend; pixels without data stay as they are."""
    height, width = raster.overview.shape[:2]
    wanted = ((np.arange(height) + 0.5) * raster.height / height).astype(int)
    columns = ((np.arange(width) + 0.5) * raster.width / width).astype(int)
    small, top = np.zeros((height, width), np.int64), 0
    for strip in rows:
        inside = np.flatnonzero((wanted >= top) & (wanted < top + len(strip)))
        small[inside] = strip[wanted[inside] - top][:, columns]
        top += len(strip)
    return draw_labels(Image.fromarray(raster.overview), small, ["", *words], strength=0.45, count_zero=False)
