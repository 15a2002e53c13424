"""Data sets in folders: finds the pairs of a data set, and reads them as tiles.

    tiles = open_tiles("loveda", Path("datasets"))
    tiles.classes, len(tiles), tiles.image(0), tiles.labels(0)

One's own: ``classes.json`` (a list of names), ``images/`` and ``labels/*.png`` of the same names; values are classes
from 0, and 255 does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seg_zero.command_line import did_you_mean
from seg_zero.data.label_maps import MAX_CLASSES, Listing, Pair, pictures_in, plain
from seg_zero.errors import InputError, one_line
from seg_zero.files import read_json
from seg_zero.images import load_image
from seg_zero.remote_sensing.class_names import check_names
from seg_zero.remote_sensing.data.datasets import DATASETS, SPLITS, Dataset, Place

OWN = "folder"
CLASSES_FILE = "classes.json"
_DOCS = "docs/remote_sensing.md lists the folders"


@dataclass(frozen=True)
class FolderTiles:
    """A data set that was found: a sequence of tiles (:class:`seg_zero.remote_sensing.tiles.LabelledTiles`).

    dataset: one of :data:`DATASETS` or "folder"; maps_alone: label maps that have no picture.
    """

    dataset: str
    title: str
    classes: tuple[str, ...]
    folder: Path
    split: str
    listing: Listing
    maps_alone: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.listing.pairs)

    def name(self, index: int) -> str:
        return self.listing.pairs[index].name

    def image(self, index: int) -> np.ndarray:
        """H x W x 3 uint8, RGB. Raises InputError for a picture that cannot be read."""
        return np.asarray(load_image(self.listing.pairs[index].image))

    def labels(self, index: int) -> np.ndarray:
        """H x W uint8, indices of ``classes``; 255 is ignored. Raises InputError as ``read_truth``."""
        return self.listing.truth(self.listing.pairs[index])


def open_tiles(name: str, folder: Path, split: str = "all") -> FolderTiles:
    """A data set by name.

    name: one of :data:`DATASETS`, or "folder" for one of one's own. folder: the data set's, or that of several.
    split: all, train or val; one's own has them as folders of these names. Raises InputError for what is not there.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r} is unknown; choose one of {', '.join(SPLITS)}")
    if not folder.is_dir():
        raise InputError(f"folder {folder} does not exist; give that of the data set, {_DOCS}")
    if name == OWN:
        return _own(folder, split)
    known = DATASETS.get(name)
    if known is None:
        near = did_you_mean(name, (*DATASETS, OWN)) or f"; choose one of {', '.join((*DATASETS, OWN))}"
        raise InputError(f"data set {name!r} is unknown{near}")
    if split not in known.places:
        raise InputError(f"{name} has no split {split!r} here; it has {', '.join(known.places)}")
    for root in _roots(known, folder):
        for places in known.places[split]:
            pairs, alone = _pairs(root, places)
            if pairs:
                listing = Listing(pairs, plain(len(known.classes)), known.colours)
                return FolderTiles(name, known.title, known.classes, root, split, listing, alone)
    wanted = "; or ".join(_shown(places) for places in known.places[split])
    raise InputError(f"folder {folder} holds no {name} ({wanted}); {_DOCS}")


def found_below(folder: Path) -> list[str]:
    """The data sets that lie in a folder of data sets, in the order of :data:`DATASETS`."""
    return [
        name
        for name, known in DATASETS.items()
        if any(
            place.is_dir() for root in known.folders for places in known.places["all"] for one in places
            for place in (folder / root).glob(one.images)
        )
    ]  # fmt: skip


def _own(folder: Path, split: str) -> FolderTiles:
    place = folder / split if split != "all" else folder
    file = next((path for path in (place / CLASSES_FILE, folder / CLASSES_FILE) if path.is_file()), None)
    if file is None:
        raise InputError(
            f"{folder / CLASSES_FILE} does not exist; make it a list of the classes' names, in their order"
        )
    try:
        names = read_json(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({one_line(error)}); make it a list of names") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{file} holds no list of names; give one, such as ['road', 'roof']")
    classes = check_names(names, str(file), MAX_CLASSES)
    parts = [place] if (place / "images").is_dir() else [place / part for part in ("train", "val")]
    kept = tuple(Place(f"{part.relative_to(folder)}/images", "../labels") for part in parts)
    pairs, alone = _pairs(folder, kept)
    if not pairs:
        raise InputError(f"folder {place} holds no pictures in images/; {_DOCS}")
    return FolderTiles(OWN, folder.name, classes, folder, split, Listing(pairs, plain(len(classes))), alone)


def _roots(known: Dataset, folder: Path) -> list[Path]:
    """Where the data set may lie: the folder itself, or one of its names in it."""
    inside = [folder / name for name in known.folders]
    # The splits are found relative to a folder NAME, which need not exist where they alone were downloaded.
    return [*inside, folder]


def _pairs(root: Path, places: Sequence[Place]) -> tuple[tuple[Pair, ...], tuple[Path, ...]]:
    """All pairs of the places in order, and the maps that belong to no picture."""
    found: list[tuple[Path, Path, Path]] = []
    alone: list[Path] = []
    for place in places:
        for images in sorted(_below(root, place.images)):
            truths = Path(_normal(images / place.truths))
            if not truths.is_dir():
                continue
            stems = {path: path.stem.removesuffix(place.image_end) for path in pictures_in(images)}
            used = {truths / f"{stem}{place.truth_end}" for stem in stems.values()}
            found += [(images, path, truths / f"{stem}{place.truth_end}") for path, stem in stems.items()]
            ending = place.truth_end
            alone += sorted(path for path in truths.iterdir() if path.name.endswith(ending) and path not in used)
    return tuple(_named(found)), tuple(alone)


def _below(root: Path, pattern: str) -> list[Path]:
    while pattern.startswith("../"):
        root, pattern = root.parent, pattern.removeprefix("../")
    return [path for path in root.glob(pattern) if path.is_dir()] if root.is_dir() else []


def _normal(path: Path) -> str:
    """Without "..", which would follow a symbolic link."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return str(Path(*parts))


def _named(found: Sequence[tuple[Path, Path, Path]]) -> list[Pair]:
    """Pairs with names of their own: the stem, with folders before it where two pictures have the same."""
    counts = Counter(image.stem for _, image, _ in found)
    pairs = []
    for folder, image, truth in found:
        name = image.stem
        if counts[name] > 1:
            above = [part.name for part in (folder.parent.parent, folder.parent)]
            name = "_".join([*above, image.stem])
        pairs.append(Pair(name, image, truth))
    names = Counter(pair.name for pair in pairs)
    return [
        pair if names[pair.name] == 1 else Pair(pair.image.name.replace(".", "_"), pair.image, pair.truth)
        for pair in pairs
    ]


def _shown(places: Sequence[Place]) -> str:
    return ", ".join(f"{place.images.lstrip('./')} with {place.truths.lstrip('./')}" for place in places)
