"""Annotations of SceneNN: a mesh whose vertices have labels, and an XML file that says what these are."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from seg_zero.errors import InputError, one_line
from seg_zero.files import read_text
from seg_zero.online3d.evaluation.ply import positions, read_vertices
from seg_zero.online3d.synthetic.sequence import Truth

# The 40 classes of NYU, numbered from 1, as they are spelled there.
NYU40 = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter"),
    *("blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling"),
    *("books", "refridgerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person"),
    *("night stand", "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop"),
)
_OTHER_NAMES = {
    "prop": "otherprop",
    "unknown": "otherprop",
    "fridge": "refridgerator",
    "furniture": "otherfurniture",
    "structure": "otherstructure",
}
VALID = frozenset(range(3, len(NYU40) + 1))  # as in ScanNet, walls and floors are void


def is_scenenn(folder: Path) -> bool:
    """Whether a folder holds the annotations of a scene: 005.ply and 005.xml."""
    return any(path.with_suffix(".ply").exists() for path in folder.glob("*.xml"))


def read_scenenn(folder: Path) -> Truth:
    """Vertices of a scene's mesh with class (NYU40) * 1000 + place in the XML file, 0 for none and for other classes.

    Raises InputError for files that are missing or damaged.
    """
    found = sorted(path for path in folder.glob("*.xml") if path.with_suffix(".ply").exists())
    if len(found) != 1:
        raise InputError(f"{folder} holds {len(found)} annotations (NAME.xml beside NAME.ply); a scene has one")
    vertices = read_vertices(found[0].with_suffix(".ply"), "label")
    ids = np.zeros(len(vertices), dtype=np.int64)
    labels = vertices["label"].astype(np.int64)
    for place, (number, kind) in enumerate(_objects(found[0]), 1):
        if kind:
            ids[labels == number] = kind * 1000 + place
    return Truth(positions(vertices), ids)


def _objects(path: Path) -> list[tuple[int, int]]:
    """Number of the label and class of each object, 0 for a class that NYU40 lacks."""
    numbers = {name: number for number, name in enumerate(NYU40, 1)}
    try:
        found = ElementTree.fromstring(read_text(path)).findall(".//label")
        objects = []
        for label in found:
            name = label.get("nyu_class", "").strip().lower()
            objects.append((int(label.attrib["id"]), numbers.get(_OTHER_NAMES.get(name, name), 0)))
    except (OSError, UnicodeDecodeError, ElementTree.ParseError, KeyError, ValueError) as error:
        raise InputError(f"{path} holds no labels with an id ({one_line(error)}); download it again") from error
    if not objects or len(objects) > 999 or len({number for number, _ in objects}) < len(objects):
        raise InputError(f"{path} holds {len(objects)} labels; a scene has 1 to 999, each with its own id")
    return objects
