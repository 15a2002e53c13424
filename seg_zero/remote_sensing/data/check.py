"""What is in a folder of labelled tiles, and what is wrong with it; no bad file ends the check."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from seg_zero.data.label_maps import UNKNOWN, read_label_map
from seg_zero.errors import InputError, counted
from seg_zero.images import load_image
from seg_zero.metrics.semantic import IGNORE
from seg_zero.remote_sensing.data.folders import FolderTiles

_AT_ONCE = 4  # tiles that are read before the first of them is counted, for each worker
_FILES = 3  # named beside an unknown value


@dataclass(frozen=True)
class TileCheck:
    """One tile. size: width, height; pixels: int64, of each class; problem: why it cannot be used, None if it can."""

    index: int
    name: str
    size: tuple[int, int] = (0, 0)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    ignored: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    problem: str | None = None


@dataclass
class CheckReport:
    """The tiles in order. ``problems``: files by name and reason; ``unknown``: values by what they are, with pixels and
    tiles."""

    tiles: FolderTiles
    checked: list[TileCheck] = field(default_factory=list)

    @property
    def problems(self) -> list[tuple[str, str]]:
        alone = [(path.name, f"label map {path} has no picture") for path in self.tiles.maps_alone]
        return [(one.name, one.problem) for one in self.checked if one.problem is not None] + alone

    @property
    def unknown(self) -> dict[str, tuple[int, list[str]]]:
        counts: Counter[str] = Counter()
        names: dict[str, list[str]] = defaultdict(list)
        for one in self.checked:
            counts.update(one.unknown)
            for value in one.unknown:
                names[value].append(one.name)
        return {value: (count, names[value]) for value, count in counts.most_common()}

    @property
    def usable(self) -> list[TileCheck]:
        return [one for one in self.checked if one.problem is None]

    def pixels(self) -> np.ndarray:
        """int64, of each class in all usable tiles."""
        return sum((one.pixels for one in self.usable), np.zeros(len(self.tiles.classes), np.int64))

    def tiles_with(self) -> np.ndarray:
        """int64, the number of usable tiles that hold each class."""
        return sum(
            ((one.pixels > 0).astype(np.int64) for one in self.usable), np.zeros(len(self.tiles.classes), np.int64)
        )

    def sizes(self) -> list[tuple[tuple[int, int], int]]:
        """Sizes of usable tiles, the most frequent first."""
        return Counter(one.size for one in self.usable).most_common()

    def record(self) -> dict[str, Any]:
        """What report.json holds."""
        pixels, tiles = self.pixels(), self.tiles_with()
        return {
            "dataset": self.tiles.dataset,
            "folder": str(self.tiles.folder),
            "split": self.tiles.split,
            "tiles": len(self.checked),
            "usable": len(self.usable),
            "ignored_pixels": sum(one.ignored for one in self.usable),
            "sizes": [{"width": size[0], "height": size[1], "tiles": count} for size, count in self.sizes()],
            "classes": [
                {"value": number, "name": name, "pixels": int(pixels[number]), "tiles": int(tiles[number])}
                for number, name in enumerate(self.tiles.classes)
            ],
            "unknown": [
                {"value": value, "pixels": count, "tiles": names} for value, (count, names) in self.unknown.items()
            ],
            "problems": [{"name": name, "problem": problem} for name, problem in self.problems],
        }

    def summary(self, listed: int = 10) -> str:
        """For a terminal: sizes, a line for each class, unknown values, problems."""
        pixels, tiles, names = self.pixels(), self.tiles_with(), self.tiles.classes
        ignored = sum(one.ignored for one in self.usable)
        total = max(1, int(pixels.sum()) + ignored)
        sizes = ", ".join(f"{count:,} of {w}x{h}" for (w, h), count in self.sizes()[:3])
        more = len(self.sizes()) - 3
        wide = max(len(name) for name in [*names, "ignored"])
        lines = [
            f"{self.tiles.title}, {self.tiles.folder}: {counted(len(self.checked), 'tile')}, "
            f"{len(self.usable):,} usable",
            *([f"sizes: {sizes}" + (f" and {more} other sizes" if more > 0 else "")] if sizes else []),
            f"{'':>5}  {'class':<{wide}}  {'pixels':>9}  {'tiles':>7}",
        ]
        for number, name in enumerate(names):
            part = pixels[number] / total
            bar = "█" * round(30 * part)
            lines.append(f"{number:>5}  {name:<{wide}}  {_percent(part):>9}  {tiles[number]:>7,}  {bar}".rstrip())
        lines.append(f"{IGNORE:>5}  {'ignored':<{wide}}  {_percent(ignored / total):>9}")
        for value, (count, where) in self.unknown.items():
            first = ", ".join(where[:_FILES]) + (f" and {len(where) - _FILES} more" if len(where) > _FILES else "")
            lines.append(f"value {value} is no class: {count:,} pixels in {first}")
        problems = self.problems
        if problems:
            lines.append(f"{len(problems):,} cannot be used:")
            lines += [f"  {problem}" for _, problem in problems[:listed]]
            lines += [f"  and {len(problems) - listed:,} more"] if len(problems) > listed else []
        else:
            lines.append("no problems")
        return "\n".join(lines)


def _percent(part: float) -> str:
    return f"{100 * part:.2f} %"


def check_tiles(
    tiles: FolderTiles, workers: int = 1, progress: Callable[[TileCheck], None] | None = None
) -> CheckReport:
    """Read every picture and label map of a data set."""
    report = CheckReport(tiles)
    with ThreadPoolExecutor(workers) as pool:
        for one in _bounded(pool, tiles, workers * _AT_ONCE):
            report.checked.append(one)
            if progress is not None:
                progress(one)
    return report


def _bounded(pool: ThreadPoolExecutor, tiles: FolderTiles, most: int) -> Iterator[TileCheck]:
    """The checks in order, with few results at a time."""
    numbers = iter(range(len(tiles)))
    waiting = [pool.submit(check_tile, tiles, number) for number in islice(numbers, most)]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [pool.submit(check_tile, tiles, number) for number in islice(numbers, 1)]


def check_tile(tiles: FolderTiles, index: int) -> TileCheck:
    """Whether a picture and its label map can be read, fit each other, and hold only values of the data set."""
    pair, classes = tiles.listing.pairs[index], len(tiles.classes)
    try:
        size = load_image(pair.image).size
        found = read_label_map(pair.truth, tiles.listing.table, tiles.listing.colours)
    except InputError as error:
        return TileCheck(index, pair.name, problem=str(error))
    height, width = found.classes.shape
    if (width, height) != size:
        differs = f"label map {pair.truth} has {width}x{height} pixels, its picture {size[0]}x{size[1]}"
        return TileCheck(index, pair.name, size, problem=differs)
    counts = np.bincount(found.classes.ravel(), minlength=256)
    unknown = {found.shown(value): count for value, count in found.unknown().items()}
    problem = None
    if counts[UNKNOWN]:
        values = ", ".join(list(unknown)[:5])
        problem = f"label map {pair.truth} holds {'values' if len(unknown) > 1 else 'the value'} {values}, no class"
    return TileCheck(index, pair.name, size, counts[:classes], int(counts[IGNORE]), unknown, problem)
