"""Annotations of ScanNet: a mesh, its segments, and the objects they make up, in the classes of ScanNet200."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from seg_zero.errors import InputError, one_line
from seg_zero.files import read_json, read_text
from seg_zero.online3d.evaluation.ply import positions, read_vertices
from seg_zero.online3d.synthetic.sequence import Truth

LABELS = "scannetv2-labels.combined.tsv"
MESH, SEGMENTS, OBJECTS = "_vh_clean_2.ply", "_vh_clean_2.0.010000.segs.json", ".aggregation.json"
WALL, FLOOR = 1, 3
# Numbers of the classes of ScanNet200, in the column `id` of the table of labels.
CLASSES = frozenset(
    [
        *(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24, 26, 27, 28, 29, 31, 32, 33),
        *(34, 35, 36, 38, 39, 40, 41, 42, 44, 45, 46, 47, 48, 49, 50, 51, 52, 54, 55, 56, 57, 58, 59, 62, 63, 64, 65),
        *(66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 82, 84, 86, 87, 88, 89, 90, 93, 95, 96, 97, 98),
        *(99, 100, 101, 102, 103, 104, 105, 106, 107, 110, 112, 115, 116, 118, 120, 121, 122, 125, 128, 130, 131, 132),
        *(134, 136, 138, 139, 140, 141, 145, 148, 154, 155, 156, 157, 159, 161, 163, 165, 166, 168, 169, 170, 177),
        *(180, 185, 188, 191, 193, 195, 202, 208, 213, 214, 221, 229, 230, 232, 233, 242, 250, 261, 264, 276, 283),
        *(286, 300, 304, 312, 323, 325, 331, 342, 356, 370, 392, 395, 399, 408, 417, 488, 540, 562, 570, 572, 581),
        *(609, 748, 776, 1156, *range(1163, 1177), *range(1178, 1192)),
    ]
)
VALID = CLASSES - {WALL, FLOOR}  # the benchmark's instances: walls and floors are void


def is_scannet(folder: Path) -> bool:
    """Whether a folder holds the annotations of a scene."""
    return any(folder.glob(f"*{MESH}")) and any(folder.glob(f"*{OBJECTS}"))


def read_scannet(folder: Path) -> Truth:
    """Vertices of a scene's mesh with class * 1000 + number of the object + 1, 0 for none and for other classes.

    The table of labels lies in the folder or one or two above it. Raises InputError for files that are missing,
    damaged or do not fit each other.
    """
    mesh = _only(folder, MESH)
    scene = mesh.name.removesuffix(MESH)
    points = positions(read_vertices(mesh))
    segments = _segments(folder / f"{scene}{SEGMENTS}", len(points), mesh)
    ids = np.zeros(len(points), dtype=np.int64)
    names = read_labels(_labels_of(folder))
    for number, label, parts in _objects(folder / f"{scene}{OBJECTS}"):
        if label not in names:
            raise InputError(f"{folder / f'{scene}{OBJECTS}'}: {label!r} is not in {LABELS}; take ScanNet's own table")
        kind = names[label]
        if kind in CLASSES:
            ids[np.isin(segments, parts)] = kind * 1000 + number + 1
    return Truth(points, ids)


def read_labels(path: Path, column: str = "raw_category") -> dict[str, int]:
    """Class numbers by the names in a column of ScanNet's table of labels; of several the first."""
    try:
        rows = list(csv.DictReader(read_text(path).splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
        names: dict[str, int] = {}
        for row in rows:
            names.setdefault(row[column], int(row["id"]))
    except (OSError, UnicodeDecodeError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is no table of labels ({one_line(error)}); take {LABELS} of ScanNet, with `id` and `{column}`"
        ) from error
    if not names:
        raise InputError(f"{path} holds no labels; take {LABELS} of ScanNet")
    return names


def classes_of_table(path: Path) -> dict[str, int]:
    """The classes of ScanNet200 without wall and floor: their numbers by the table's `category`."""
    return {name: number for name, number in read_labels(path, "category").items() if number in VALID}


def _labels_of(folder: Path) -> Path:
    places = [folder, *folder.resolve().parents[:2]]
    found = next((place / LABELS for place in places if (place / LABELS).exists()), None)
    if found is None:
        raise InputError(f"{folder} has no {LABELS}, nor have the two folders above; put ScanNet's table into one")
    return found


def _only(folder: Path, ending: str) -> Path:
    found = sorted(folder.glob(f"*{ending}"))
    if len(found) != 1:
        raise InputError(f"{folder} holds {len(found)} files *{ending}; a scene has one")
    return found[0]


def _segments(path: Path, count: int, mesh: Path) -> np.ndarray:
    try:
        segments = np.asarray(read_json(path)["segIndices"], dtype=np.int64)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(f"{path} holds no segIndices ({one_line(error)}); download it again") from error
    if segments.shape != (count,):
        raise InputError(f"{path} is of {segments.size} vertices, but {mesh.name} has {count}; take both of one scene")
    return segments


def _objects(path: Path) -> list[tuple[int, str, list[int]]]:
    """Number, label and segments of each object."""
    try:
        objects = [
            (int(one["objectId"]), str(one["label"]), [int(part) for part in one["segments"]])
            for one in read_json(path)["segGroups"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no segGroups ({one_line(error)}); download it again") from error
    numbers = [number for number, _, _ in objects]
    if not objects or len(set(numbers)) < len(numbers) or not 0 <= min(numbers) <= max(numbers) < 999:
        raise InputError(
            f"{path}: objects have the numbers {sorted(numbers)[:5]} ...; each needs its own from 0 to 998"
        )
    return objects
