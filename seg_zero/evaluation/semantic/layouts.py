"""The benchmarks' folders of pictures and label maps.

Each reader takes the root of a data set in its published layout, or as mmsegmentation's preparation leaves it.
"""

from __future__ import annotations

from pathlib import Path

from seg_zero.data.label_maps import (
    Listing,
    Pair,
    check_pairs,
    pictures_in,
    plain,
    table_of,
    zero_is_none,
)
from seg_zero.errors import InputError, one_line
from seg_zero.evaluation.semantic.context_mat import MatListing
from seg_zero.files import read_lines
from seg_zero.metrics.semantic import IGNORE

# COCO-Stuff's maps leave out the numbers of the eleven classes that COCO never annotated.
_COCO_UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


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
    return Listing(_beside(root, "images/val2017", folder, ".png"), table_of(meaning))


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
    return Listing(check_pairs(pairs, images, "*/*_leftImg8bit.png"), plain(classes) if trained else table_of(meaning))


def voc20(root: Path, classes: int) -> Listing:
    """VOC2012: ``ImageSets/Segmentation/val.txt``, ``JPEGImages``, ``SegmentationClass``."""
    return _listed(root, "Segmentation", "SegmentationClass", classes)


def context59(root: Path, classes: int) -> Listing:
    """VOC2010: ``ImageSets/SegmentationContext/val.txt``, ``JPEGImages``, ``SegmentationClassContext``.

    Without that last folder, the published ``trainval/*.mat``; then ``ImageSets/Main/val.txt`` serves too, VOC2010's
    own list.
    """
    if (root / "SegmentationClassContext").is_dir() or not (root / "trainval").is_dir():
        return _listed(root, "SegmentationContext", "SegmentationClassContext", classes)
    sets = next((name for name in ("SegmentationContext", "Main") if (root / "ImageSets" / name).is_dir()), "Main")
    listing = _listed(root, sets, "trainval", classes, ".mat")
    return MatListing(listing.pairs, listing.table)


def folder(root: Path, classes: int) -> Listing:
    """One's own: ``images/`` and ``labels/*.png`` of the same names; values are classes, 255 does not count."""
    return Listing(_beside(root, "images", "labels", ".png"), plain(classes))


def _listed(root: Path, sets: str, truths: str, classes: int, ending: str = ".png") -> Listing:
    path = root / "ImageSets" / sets / "val.txt"
    try:
        names = [line.strip() for line in read_lines(path) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}); give the folder of the data set") from error
    names = list(dict.fromkeys(names))
    if not names:
        raise InputError(f"{path} names no picture; download the data set again")
    pairs = (Pair(name, root / "JPEGImages" / f"{name}.jpg", root / truths / f"{name}{ending}") for name in names)
    return Listing(tuple(pairs), zero_is_none(classes))


def _beside(root: Path, images: str, truths: str, ending: str) -> tuple[Pair, ...]:
    """Pictures of a folder with maps of the same name and another ending in another folder."""
    place = _folder(root / images)
    _folder(root / truths)
    pairs = [Pair(path.stem, path, root / truths / f"{path.stem}{ending}") for path in pictures_in(place)]
    return check_pairs(pairs, place, "*.jpg")


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise InputError(f"folder {path} does not exist; give the root of the data set, see docs/open_vocabulary.md")
    return path


def _first(path: Path, pattern: str) -> bool:
    return next(_folder(path).glob(pattern), None) is not None
