"""The eight data sets of OVRSISBench (arXiv 2509.12040): classes in the order of their values, folders, colours.

Values are classes from 0, and 255 does not count, in all folders as the benchmark released them. Original downloads in
colours are read by their published tables. DLRSD has no original here: its values there are not documented.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from seg_zero.data.label_maps import Colour
from seg_zero.metrics.semantic import IGNORE

SPLITS = ("all", "train", "val")


@dataclass(frozen=True)
class Place:
    """Where pictures lie, and where their maps, relative to a data set's folder.

    images: a glob of folders; truths: the folder of the maps, relative to such a folder. A picture STEM + image_end
    belongs to the map STEM + truth_end; image_end holds the end of the name before the dot.
    """

    images: str
    truths: str
    image_end: str = ""
    truth_end: str = ".png"


@dataclass(frozen=True)
class Dataset:
    """A data set. folders: the names under which it lies in a folder of data sets; places: by split, the ways in which
    it may lie there, each a list of places that belong together; colours: of maps in colours."""

    title: str
    classes: tuple[str, ...]
    folders: tuple[str, ...]
    places: Mapping[str, tuple[tuple[Place, ...], ...]]
    colours: Mapping[Colour, int] | None = None
    note: str = ""


def _names(text: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in text.split(";"))


def _colours(*table: Colour) -> dict[Colour, int]:
    return {colour: number for number, colour in enumerate(table)}


def _split(name: str, split: str) -> tuple[tuple[Place, ...], ...]:
    """The released splits lie beside the released folder: NAME_split/train/imgs."""
    return tuple((Place(f"../{name}_split/{split}/{images}", "../D2masks"),) for images in ("imgs", "images"))


_RELEASED = (Place("imgs", "../D2masks"),)
_DRONE = (Place("src", "../gt"),)
_ISPRS = _colours((255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0))
_ISPRS_CLASSES = _names("Impervious surfaces; Building; Low vegetation; Tree; Car; Clutter/background")
_VAIHINGEN = "ISPRS_semantic_labeling_Vaihingen_ground_truth"
_ISAID_CLASSES = _names(
    """
    ship; storage tank; baseball diamond; tennis court; basketball court; ground track field; bridge; large vehicle;
    small vehicle; helicopter; swimming pool; roundabout; soccer ball field; plane; harbor
    """
)
_ISAID_COLOURS = {
    (0, 0, 0): IGNORE,
    **_colours(
        *((0, 0, 63), (0, 63, 63), (0, 63, 0), (0, 63, 127), (0, 63, 191), (0, 63, 255), (0, 127, 63), (0, 127, 127)),
        *((0, 0, 127), (0, 0, 191), (0, 0, 255), (0, 191, 127), (0, 127, 191), (0, 127, 255), (0, 100, 155)),
    ),
}


def _isaid(split: str) -> tuple[Place, ...]:
    end = "_instance_color_RGB.png"
    return (Place(f"{split}/images/images", "../../Semantic_masks/images", truth_end=end),)


def _drone(*splits: str) -> tuple[Place, ...]:
    return tuple(Place(f"{split}/src", "../gt") for split in splits)


DATASETS: dict[str, Dataset] = {
    "dlrsd": Dataset(
        "DLRSD, 17 classes",
        _names(
            """
            airplane; bare soil; buildings; cars; chaparral; court; dock; field; grass; mobile home; pavement; sand;
            sea; ship; tanks; trees; water
            """
        ),
        ("DLRSD",),
        {"all": (_RELEASED,), "train": _split("DLRSD", "train"), "val": _split("DLRSD", "val")},
    ),
    "isaid": Dataset(
        "iSAID, 15 classes",
        _ISAID_CLASSES,
        ("iSAID",),
        {
            "all": (_RELEASED, (*_isaid("train"), *_isaid("val"))),
            "train": (*_split("iSAID", "train"), _isaid("train")),
            "val": (*_split("iSAID", "val"), _isaid("val")),
        },
        _ISAID_COLOURS,
    ),
    "loveda": Dataset(
        "LoveDA, 8 classes",
        _names("no-data; Background; Building; Road; Water; Barren; Forest; Agriculture"),
        ("LoveDA",),
        {
            "all": (
                (Place("images_png", "../masks_png"),),
                tuple(Place(f"{split}/*/images_png", "../masks_png") for split in ("Train", "Val")),
            ),
            "train": ((Place("Train/*/images_png", "../masks_png"),),),
            "val": ((Place("Val/*/images_png", "../masks_png"),),),
        },
        note="no-data is a class of its own, as in the benchmark",
    ),
    "potsdam": Dataset(
        "Potsdam, 6 classes",
        _ISPRS_CLASSES,
        ("Potsdam",),
        {
            "all": (
                _RELEASED,
                (Place("2_Ortho_RGB", "../5_Labels_all", "_RGB", "_label.tif"),),
                (Place("2_Ortho_RGB", "../5_Labels_all_noBoundary", "_RGB", "_label_noBoundary.tif"),),
            )
        },
        {**_ISPRS, (0, 0, 0): IGNORE},
    ),
    "uavid": Dataset(
        "UAVid, 8 classes",
        _names("Background clutter; Building; Road; Tree; Low vegetation; Moving car; Static car; Human"),
        ("uavid", "UAVid"),
        {
            "all": (
                (Place("Images", "../Labels"),),
                tuple(Place(f"uavid_{split}/*/Images", "../Labels") for split in ("train", "val")),
            ),
            "train": ((Place("uavid_train/*/Images", "../Labels"),),),
            "val": ((Place("uavid_val/*/Images", "../Labels"),),),
        },
        _colours(
            *((0, 0, 0), (128, 0, 0), (128, 64, 128), (0, 128, 0)),
            *((128, 128, 0), (64, 0, 128), (192, 0, 192), (64, 64, 0)),
        ),
    ),
    "udd5": Dataset(
        "UDD5, 5 classes",
        _names("Vegetation; Building; Road; Vehicle; Other"),
        ("UDD5",),
        {"all": (_drone("all"), _drone("train", "val")), "train": (_drone("train"),), "val": (_drone("val"),)},
        _colours((107, 142, 35), (102, 102, 156), (128, 64, 128), (0, 0, 142), (0, 0, 0)),
    ),
    "vaihingen": Dataset(
        "Vaihingen, 6 classes",
        _ISPRS_CLASSES,
        ("Vaihingen",),
        {
            "all": (
                _RELEASED,
                (Place("top", f"../{_VAIHINGEN}_COMPLETE", truth_end=".tif"),),
                (Place("top", f"../{_VAIHINGEN}_eroded_COMPLETE", truth_end="_noBoundary.tif"),),
                (Place("top", "../gts_for_participants", truth_end=".tif"),),
            )
        },
        {**_ISPRS, (0, 0, 0): IGNORE},
    ),
    "vdd": Dataset(
        "VDD, 7 classes",
        _names("Other; Wall; Road; Vegetation; Vehicle; Roof; Water"),
        ("VDD",),
        {
            "all": (_DRONE, _drone("train", "val", "test")),
            "train": (_drone("train"),),
            "val": (_drone("val"),),
        },
        _colours(
            *((0, 0, 0), (128, 0, 0), (128, 64, 128), (0, 128, 0), (64, 0, 128), (192, 192, 128), (0, 0, 128)),
        ),
    ),
}
