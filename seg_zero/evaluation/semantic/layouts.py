"""Folders of pictures and label maps: which belong together, and what the values of the maps mean.

Each reader takes the root of a data set in its published layout, or as mmsegmentation's preparation leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from seg_zero.errors import InputError, one_line
from seg_zero.files import read_lines
from seg_zero.images import MAX_PIXELS
from seg_zero.metrics.semantic import IGNORE

UNKNOWN = 254  # in a table of values: no value of the data set
MAX_CLASSES = 254
_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
# COCO-Stuff's maps leave out the numbers of the eleven classes that COCO never annotated.
_COCO_UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


@dataclass(frozen=True)
class Pair:
    """A picture and its label map; ``name`` is theirs alone in the data set."""

    name: str
    image: Path
    truth: Path


@dataclass(frozen=True)
class Listing:
    """The pairs of a data set in order. table: uint8 256, the class that each value of a map means, IGNORE for pixels
    that do not count, UNKNOWN for values that no map may have."""

    pairs: tuple[Pair, ...]
    table: np.ndarray


def plain(classes: int) -> np.ndarray:
    """Values are classes; 255 does not count."""
    return _table({value: value for value in range(classes)})


def zero_is_none(classes: int) -> np.ndarray:
    """0 and 255 do not count, classes begin at 1."""
    return _table({0: IGNORE, **{value + 1: value for value in range(classes)}})


def _table(meaning: Mapping[int, int]) -> np.ndarray:
    table = np.full(256, UNKNOWN, dtype=np.uint8)
    table[list(meaning)] = list(meaning.values())
    table[IGNORE] = IGNORE
    return table


def ade20k(root: Path, classes: int) -> Listing:
    """``images/validation/*.jpg`` and ``annotations/validation/*.png`` of ADEChallengeData2016."""
    return Listing(_beside(root, "images/validation", "annotations/validation", ".png"), zero_is_none(classes))


def coco_stuff(root: Path, classes: int) -> Listing:
    """``images/val2017`` with ``annotations/val2017``: ``*_labelTrainIds.png``, or the published ``*.png``."""
    folder = "annotations/val2017"
    if _first(root / folder, "*_labelTrainIds.png"):
        return Listing(_beside(root, "images/val2017", folder, "_labelTrainIds.png"), plain(classes))
    used = [value for value in range(182) if value not in _COCO_UNUSED]
    meaning = {value: number for number, value in enumerate(used)}
    return Listing(_beside(root, "images/val2017", folder, ".png"), _table(meaning))


def cityscapes(root: Path, classes: int) -> Listing:
    """``leftImg8bit/val`` with ``gtFine/val``: ``*_labelTrainIds.png``, or the published ``*_labelIds.png``."""
    images, truths = root / "leftImg8bit/val", root / "gtFine/val"
    trained = _first(truths, "*/*_gtFine_labelTrainIds.png")
    ending = "_gtFine_labelTrainIds.png" if trained else "_gtFine_labelIds.png"
    pairs = []
    for image in sorted(_folder(images).glob("*/*_leftImg8bit.png")):
        stem = image.name.removesuffix("_leftImg8bit.png")
        pairs.append(Pair(stem, image, truths / image.parent.name / f"{stem}{ending}"))
    meaning = dict.fromkeys(range(34), IGNORE)
    meaning |= {value: number for number, value in enumerate(_CITYSCAPES_IDS)}
    return Listing(_some(pairs, images, "*/*_leftImg8bit.png"), plain(classes) if trained else _table(meaning))


def voc20(root: Path, classes: int) -> Listing:
    """VOC2012: ``ImageSets/Segmentation/val.txt``, ``JPEGImages``, ``SegmentationClass``."""
    return _listed(root, "Segmentation", "SegmentationClass", classes)


def context59(root: Path, classes: int) -> Listing:
    """VOC2010: ``ImageSets/SegmentationContext/val.txt``, ``JPEGImages``, ``SegmentationClassContext``."""
    return _listed(root, "SegmentationContext", "SegmentationClassContext", classes)


def folder(root: Path, classes: int) -> Listing:
    """One's own: ``images/`` and ``labels/*.png`` of the same names; values are classes, 255 does not count."""
    return Listing(_beside(root, "images", "labels", ".png"), plain(classes))


def read_truth(path: Path, table: np.ndarray) -> np.ndarray:
    """A label map as classes, uint8 H x W with IGNORE for pixels that do not count.

    Raises InputError for a file that is missing, damaged or in colours, and for values that the data set does not have.
    """
    if not path.is_file():
        raise InputError(f"label map {path} does not exist; complete the data set")
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"label map {path} has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
            values = np.asarray(image)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"label map {path} cannot be read ({one_line(error)}); download it again") from error
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise InputError(f"label map {path} is in colours ({image.mode}); give a PNG of label values")
    values = values.astype(np.int64)
    outside = values[(values < 0) | (values > 255)]
    found = table[np.clip(values, 0, 255)]
    wrong = outside if outside.size else values[found == UNKNOWN]
    if wrong.size:
        known = np.flatnonzero((table != UNKNOWN) & (np.arange(256) != IGNORE))
        raise InputError(
            f"label map {path} holds the value {int(wrong[0])}; its data set has {known[0]} to {known[-1]} and {IGNORE}"
        )
    return found


def _listed(root: Path, sets: str, truths: str, classes: int) -> Listing:
    path = root / "ImageSets" / sets / "val.txt"
    try:
        names = [line.strip() for line in read_lines(path) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}); give the folder of the data set") from error
    names = list(dict.fromkeys(names))
    if not names:
        raise InputError(f"{path} names no picture; download the data set again")
    pairs = (Pair(name, root / "JPEGImages" / f"{name}.jpg", root / truths / f"{name}.png") for name in names)
    return Listing(tuple(pairs), zero_is_none(classes))


def _beside(root: Path, images: str, truths: str, ending: str) -> tuple[Pair, ...]:
    """Pictures of a folder with maps of the same name and another ending in another folder."""
    place = _folder(root / images)
    _folder(root / truths)
    found = sorted(path for path in place.iterdir() if path.suffix.lower() in _IMAGES)
    pairs = [Pair(path.stem, path, root / truths / f"{path.stem}{ending}") for path in found]
    return _some(pairs, place, f"*{_IMAGES[0]}")


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise InputError(f"folder {path} does not exist; give the root of the data set, see docs/open_vocabulary.md")
    return path


def _first(path: Path, pattern: str) -> bool:
    return next(_folder(path).glob(pattern), None) is not None


def _some(pairs: list[Pair], place: Path, pattern: str) -> tuple[Pair, ...]:
    if not pairs:
        raise InputError(f"folder {place} holds no {pattern}; give the root of the data set")
    names = [pair.name for pair in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"folder {place} holds two pictures called {twice}; keep one of them")
    return tuple(pairs)
