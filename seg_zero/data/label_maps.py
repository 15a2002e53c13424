"""Folders of pictures and label maps: which belong together, and what the values of the maps mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from seg_zero.errors import InputError, one_line
from seg_zero.images import MAX_PIXELS
from seg_zero.metrics.semantic import IGNORE

UNKNOWN = 254  # in a table of values: no value of the data set
MAX_CLASSES = 254
PICTURES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff")

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Pair:
    """A picture and its label map; ``name`` is theirs alone in the data set."""

    name: str
    image: Path
    truth: Path


@dataclass(frozen=True)
class Listing:
    """The pairs of a data set in order.

    table: uint8 256, the class that each value of a map means, IGNORE for pixels that do not count, UNKNOWN for values
    that no map may have. colours: the same for maps in colours, where the data set has such.
    """

    pairs: tuple[Pair, ...]
    table: np.ndarray
    colours: Mapping[Colour, int] | None = None

    def truth(self, pair: Pair) -> np.ndarray:
        """See :func:`read_truth`."""
        return read_truth(pair.truth, self.table, self.colours)


def plain(classes: int) -> np.ndarray:
    """Values are classes; 255 does not count."""
    return table_of({value: value for value in range(classes)})


def zero_is_none(classes: int) -> np.ndarray:
    """0 and 255 do not count, classes begin at 1."""
    return table_of({0: IGNORE, **{value + 1: value for value in range(classes)}})


def table_of(meaning: Mapping[int, int]) -> np.ndarray:
    """A table from the class of each value; others are unknown, except 255, which does not count."""
    table = np.full(256, UNKNOWN, dtype=np.uint8)
    table[list(meaning)] = list(meaning.values())
    table[IGNORE] = IGNORE
    return table


@dataclass(frozen=True)
class LabelMap:
    """A map as it was read.

    values: int64 H x W, what its pixels hold, a colour as ``red * 65536 + green * 256 + blue``; classes: uint8 H x W,
    with IGNORE and UNKNOWN; coloured: whether the values are colours.
    """

    values: np.ndarray
    classes: np.ndarray
    coloured: bool

    def unknown(self) -> dict[int, int]:
        """How many pixels each value has that the data set does not know."""
        found, counts = np.unique(self.values[self.classes == UNKNOWN], return_counts=True)
        return {int(value): int(count) for value, count in zip(found, counts, strict=True)}

    def shown(self, value: int) -> str:
        """A value as one reads it: ``7``, or ``(0, 63, 127)`` for a colour."""
        return str((value >> 16, value >> 8 & 255, value & 255)) if self.coloured else str(value)


def read_label_map(path: Path, table: np.ndarray, colours: Mapping[Colour, int] | None = None) -> LabelMap:
    """A label map with whatever values it holds.

    colours: the class of each colour; a map in RGB is read by it, any other by ``table``. Raises InputError for a file
    that is missing or damaged, and for one in colours where the data set has none.
    """
    if not path.is_file():
        raise InputError(f"label map {path} does not exist; complete the data set")
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"label map {path} has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
            mode = image.mode
            coloured = colours is not None and mode in ("RGB", "RGBA")
            values = np.asarray(image.convert("RGB") if coloured else image)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"label map {path} cannot be read ({one_line(error)}); download it again") from error
    if colours is not None and coloured:
        return _by_colour(values, colours)
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise InputError(f"label map {path} is in colours ({mode}); give a PNG of label values")
    numbers = values.astype(np.int64)
    classes = table[np.clip(numbers, 0, 255)]
    classes[(numbers < 0) | (numbers > 255)] = UNKNOWN
    return LabelMap(numbers, classes, coloured=False)


def _by_colour(pixels: np.ndarray, colours: Mapping[Colour, int]) -> LabelMap:
    values = pixels.astype(np.int64) @ np.array([65536, 256, 1])
    known = {red << 16 | green << 8 | blue: number for (red, green, blue), number in colours.items()}
    codes = np.array(sorted(known), dtype=np.int64)
    places = np.searchsorted(codes, values).clip(max=len(codes) - 1)
    numbers = np.array([known[code] for code in codes.tolist()], dtype=np.uint8)
    return LabelMap(values, np.where(codes[places] == values, numbers[places], UNKNOWN).astype(np.uint8), coloured=True)


def read_truth(path: Path, table: np.ndarray, colours: Mapping[Colour, int] | None = None) -> np.ndarray:
    """A label map as classes, uint8 H x W with IGNORE for pixels that do not count.

    Raises InputError as :func:`read_label_map`, and for values that the data set does not have.
    """
    found = read_label_map(path, table, colours)
    wrong = found.values[found.classes == UNKNOWN]
    if not wrong.size:
        return found.classes
    if found.coloured:
        raise InputError(f"label map {path} holds the colour {found.shown(int(wrong[0]))}, which its data set has not")
    known = np.flatnonzero((table != UNKNOWN) & (np.arange(256) != IGNORE))
    raise InputError(
        f"label map {path} holds the value {int(wrong[0])}; its data set has {known[0]} to {known[-1]} and {IGNORE}"
    )


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder in order."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.is_file())


def check_pairs(pairs: Sequence[Pair], place: Path, pattern: str) -> tuple[Pair, ...]:
    """The pairs. Raises InputError if there is none, or two have one name."""
    if not pairs:
        raise InputError(f"folder {place} holds no {pattern}; give the root of the data set")
    names = [pair.name for pair in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"folder {place} holds two pictures called {twice}; keep one of them")
    return tuple(pairs)
