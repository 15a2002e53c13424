"""Where the masks of MRSeg's markers come from: annotation files by set and id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from seg_zero.data.builders.instances import Entry, entries_by_id, read_json
from seg_zero.data.builders.labelme import read_annotation
from seg_zero.data.builders.reasonseg import TARGET, paint
from seg_zero.data.inputs import upright_size
from seg_zero.dialogue.data.markers import Marker, MarkerId, same_picture
from seg_zero.dialogue.data.pascal_parts import pascal_mask
from seg_zero.errors import InputError
from seg_zero.masks import segmentation_to_mask

Find = Callable[[MarkerId, Path, tuple[int, int]], np.ndarray]


class MaskSource(Protocol):
    """Masks by marker."""

    def mask(self, marker: Marker, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Boolean H x W of the picture at ``image``, of (width, height). Raises InputError for an id without a mask."""
        ...


class MaskFiles:
    """Masks of several sets, each from a file or folder that is opened once, at the start.

    places: by the set's name in the markers. A place is

    * an instances file of COCO, RefCOCO, PACO or LVIS (JSON with annotations);
    * a JSON object of id to COCO RLE (as those of Visual Genome and Pascal that SegLLM published);
    * a folder of Pascal-Part's MATLAB files, of the pictures' names; see :mod:`seg_zero.dialogue.data.pascal_parts`;
    * a folder of class maps: PNGs of the pictures' names; the id is a class. ade20k's pixels count from 1, with 0 for
      no class; those of other sets are the class itself;
    * for ids that are empty (ReasonSeg): a folder of LISA's JSON files, of the pictures' names.

    Raises InputError for a place that does not exist or is none of these.
    """

    def __init__(self, places: dict[str, Path]) -> None:
        for name, place in places.items():
            if not place.exists():
                raise InputError(f"masks of {name}: {place} does not exist; check the path")
        self._places = places
        self._open = {name: _open(name, place) for name, place in places.items()}

    def mask(self, marker: Marker, image: Path, size: tuple[int, int]) -> np.ndarray:
        name = marker.dataset
        if name not in self._places:
            known = ", ".join(self._places) or "none"
            raise InputError(f"no masks are named for the set {name!r} (named: {known}); give --masks {name}=PLACE")
        try:
            found = self._open[name](marker.id, image, size)
        except KeyError as error:
            raise InputError(f"{marker.write()}: {self._places[name]} has no mask of id {marker.id!r}") from error
        except (ValueError, OSError) as error:
            raise InputError(f"{marker.write()}: {error}") from error
        if found.shape != (size[1], size[0]):
            raise InputError(f"{marker.write()}: the mask is {found.shape[1]}x{found.shape[0]}, the image {size}")
        return found


def _open(name: str, place: Path) -> Find:
    if place.is_dir():
        if any(place.glob("*.mat")):
            return lambda number, image, size: pascal_mask(place, _named(number), image)
        if not any(path.suffix.lower() in (".png", ".json") for path in place.iterdir()):
            raise InputError(f"masks of {name}: the folder {place} has no .mat, .png or .json file; check the path")
        offset = 1 if name == "ade20k" else 0
        return lambda number, image, size: _in_folder(place, offset, number, image)
    content = read_json(place, f"masks of {name}")
    if not isinstance(content, dict) or not content:
        held = "nothing" if content == {} else f"a JSON {type(content).__name__}"
        raise InputError(f"masks of {name}: {place} holds {held}; give an instances file or an object of id to RLE")
    if content.keys().isdisjoint(("annotations", "images", "categories")):
        return lambda number, image, size: segmentation_to_mask(content[str(_named(number))], size[1], size[0])
    return _of_instances(place, content)


def _of_instances(place: Path, content: dict[str, Any]) -> Find:
    """Masks by the id of an annotation. What an entry lacks is told when it is asked for."""
    annotations: dict[Any, Entry] = entries_by_id(place, content, "annotations")
    pictures: dict[Any, Entry] = entries_by_id(place, content, "images") if "images" in content else {}
    # LVIS has no file_name.
    names = {str(number): one.get("file_name") or one.get("coco_url") for number, one in pictures.items()}

    def found(number: MarkerId, image: Path, size: tuple[int, int]) -> np.ndarray:
        entry = annotations[number]
        its = names.get(str(entry.get("image_id")))
        if isinstance(its, str) and not same_picture(its, image.name):
            raise ValueError(
                f"annotation {number} of {place} is of the picture {its!r}, and the dialogue of {image.name!r}"
            )
        if "segmentation" not in entry:
            raise ValueError(f"annotation {number} of {place} has no segmentation")
        return segmentation_to_mask(entry["segmentation"], size[1], size[0])

    return found


def _named(number: MarkerId) -> int | str:
    if number is None:
        raise KeyError(number)
    return number


def _in_folder(place: Path, offset: int, number: MarkerId, image: Path) -> np.ndarray:
    if number is None:
        annotation = place / f"{image.stem}.json"
        labels, _ = paint(annotation, read_annotation(annotation)["shapes"], upright_size(image))
        return labels == TARGET
    if not isinstance(number, int):
        raise KeyError(number)
    with Image.open(place / f"{image.stem}.png") as classes:
        pixels = np.asarray(classes)
    if pixels.ndim != 2:
        raise ValueError(f"{place / image.stem}.png is no class map; it has {pixels.ndim} dimensions")
    mask = pixels == number + offset
    if not mask.any():
        raise KeyError(number)
    return np.asarray(mask)
