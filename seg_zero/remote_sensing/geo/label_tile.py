"""Labels a tile of any size: windows, blending, and a state on disk from which an interrupted run goes on exactly.

.NAME.parts/manifest.json       the settings that decide the labels; another run begins anew
.NAME.parts/rows/00003.zlib     the labels of the fourth row of windows, written when complete
.NAME.parts/carried/00003/      what that row adds to the next one; the row before's is removed then
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.windows import Window

from seg_zero.errors import InputError
from seg_zero.files import make_folder, read_json, write_bytes, write_json
from seg_zero.remote_sensing.geo.raster import Raster
from seg_zero.remote_sensing.geo.windows import Span, blend_row, spans
from seg_zero.remote_sensing.labelling import TileLabeller

NO_DATA = 0  # in label maps; the classes are 1, 2, ...
MAX_LABELS = 255  # that 8 bits hold beside it


@dataclass(frozen=True)
class TileSettings:
    """window: side of the pictures that the model sees, in pixels; overlap: pixels that neighbours share at least;
    bands: see ``open_raster``; stretch: percentiles that become 0 and 255."""

    window: int = 512
    overlap: int = 128
    bands: tuple[int, ...] | None = None
    stretch: tuple[float, float] | None = None


Progress = Callable[[int, int, bool], None]  # windows done, of how many, whether an earlier run did them


class LabelledRows:
    """The labels of a tile as rows of windows on disk, uint8; iterate over them from the top."""

    def __init__(self, folder: Path, rows: Sequence[Span], columns: Sequence[Span], width: int) -> None:
        self.folder, self.rows, self.columns, self.width = folder, rows, columns, width

    def path(self, number: int) -> Path:
        return self.folder / "rows" / f"{number:05d}.zlib"

    def carried(self, number: int) -> Path:
        return self.folder / "carried" / f"{number:05d}"

    def height(self, number: int) -> int:
        return self.rows[number].done - self.rows[number].start

    def done(self) -> int:
        """How many rows are complete and can be gone on from."""
        count = 0
        while count < len(self.rows) and self.path(count).is_file():
            count += 1
        while count and count < len(self.rows) and not self.carried(count - 1).is_dir():
            count -= 1
        return count

    def write(self, number: int, labels: np.ndarray) -> None:
        write_bytes(self.path(number), zlib.compress(labels.tobytes(), 3))

    def read(self, number: int) -> np.ndarray:
        """uint8 n x width."""
        data = zlib.decompress(self.path(number).read_bytes())
        return np.frombuffer(data, np.uint8).reshape(self.height(number), self.width)

    def __iter__(self) -> Iterator[np.ndarray]:
        for number in range(len(self.rows)):
            yield self.read(number)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def label_raster(
    load: Callable[[], TileLabeller],
    raster: Raster,
    labels: Sequence[str],
    settings: TileSettings,
    folder: Path,
    model: dict[str, Any],
    progress: Progress = lambda done, total, old: None,
) -> LabelledRows:
    """Label an open tile; ``folder`` keeps the state, ``model`` identifies what ``load`` gives.

    load: called once, or never if there is nothing to label. Raises InputError for a damaged tile and for settings
    that do not fit.
    """
    if len(labels) > MAX_LABELS:
        raise InputError(f"{len(labels)} labels are more than a label map of 8 bits can hold, {MAX_LABELS}")
    rows = spans(raster.height, settings.window, settings.overlap)
    columns = spans(raster.width, settings.window, settings.overlap)
    found = LabelledRows(folder, rows, columns, raster.width)
    _begin(folder, raster, labels, settings, model)
    start, total = found.done(), len(rows) * len(columns)
    if start:
        progress(start * len(columns), total, True)
    window = _Window(raster, cache(load), labels)
    for number in range(start, len(rows)):
        strip = np.zeros((found.height(number), raster.width), np.uint8)
        above = found.carried(number - 1) if number else None
        shutil.rmtree(found.carried(number), ignore_errors=True)
        found.carried(number).mkdir(parents=True)
        parts = blend_row(rows[number], columns, window.scores, above, found.carried(number))
        for place, (column, scores) in enumerate(parts):
            valid = window.valid[: scores.shape[1], : scores.shape[2]]
            # A method may take all classes for absent: such pixels have no label either.
            known = valid & (scores.max(axis=0) > 0)
            strip[:, column.start : column.done] = np.where(known, scores.argmax(axis=0) + 1, NO_DATA)
            progress(number * len(columns) + place + 1, total, False)
        found.write(number, strip)
        if above is not None:
            shutil.rmtree(above, ignore_errors=True)
    return found


def read_seen(raster: Raster, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """A window as the model sees it, uint8 h x w x 3, and where it has data, bool h x w."""
    picture, valid = raster.read(window)
    if valid.any() and not valid.all():
        # What lies beyond the edge of the data would be seen as a black field: the mean says least.
        picture[~valid] = picture[valid].mean(axis=0).round().astype(np.uint8)
    return picture, valid


class _Window:
    """Reads and labels one window after another; ``valid``: where the last one has data."""

    def __init__(self, raster: Raster, load: Callable[[], TileLabeller], labels: Sequence[str]) -> None:
        self.raster, self.load, self.labels = raster, load, labels
        self.valid = np.zeros((0, 0), bool)

    def scores(self, row: Span, column: Span) -> np.ndarray:
        size = (column.stop - column.start, row.stop - row.start)
        picture, self.valid = read_seen(self.raster, Window(column.start, row.start, *size))
        if not self.valid.any():
            return np.zeros((len(self.labels), size[1], size[0]), np.float32)
        found = self.load().probabilities(picture, self.labels).astype(np.float32)
        if found.shape != (len(self.labels), size[1], size[0]):
            raise ValueError(f"the labeller gave {found.shape} for {len(self.labels)} labels of {size[0]}x{size[1]}")
        return found * self.valid


def _begin(folder: Path, raster: Raster, labels: Sequence[str], settings: TileSettings, model: dict[str, Any]) -> None:
    """Make the folder that of this run, removing what another left."""
    wanted = json.loads(json.dumps(manifest(raster.path, labels, settings, model)))
    path = folder / "manifest.json"
    try:
        same = read_json(path) == wanted
    except (OSError, ValueError):
        same = False
    if not same:
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder / "rows")
        write_json(path, wanted)


def manifest(path: Path, labels: Sequence[str], settings: TileSettings, model: dict[str, Any]) -> dict[str, Any]:
    """What decides the labels: the file by size and time, the words, the windows, the model."""
    status = path.stat()
    return {
        "tile": path.name,
        "bytes": status.st_size,
        "changed": status.st_mtime_ns,
        "labels": list(labels),
        "settings": asdict(settings),
        "model": model,
    }
