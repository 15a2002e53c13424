"""Dialogues from an instances file in COCO's format (COCO, LVIS, PACO), by geometry and by parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.data.builders.instances import Entry, Instances, existing_folder, read_instances
from seg_zero.data.inputs import take_split, upright_size
from seg_zero.dialogue.data.generate import make_rounds
from seg_zero.dialogue.data.records import UNUSABLE, BadRecord, DialogueRecord, Reading, picture_of, reason_of
from seg_zero.dialogue.data.relations import Thing
from seg_zero.masks import segmentation_to_mask
from seg_zero.prompting import check_characters

MAX_THINGS = 40  # a picture with more is too crowded to ask about


@dataclass(frozen=True)
class _Picture:
    entry: Entry
    annotations: tuple[Entry, ...]


def dialogues_of_instances(
    file: Path,
    images: str,
    *,
    split: str = "all",
    val_fraction: float = 0.1,
    count: int | None = None,
    rounds: int = 6,
    seed: int = 0,
    forms: str = "own",
) -> Reading:
    """A dialogue for each picture that allows one, up to ``count``; pictures of train and val are never the same.

    Categories with a crowd region in a picture are left out there, since not all of their objects are known. A picture
    that cannot be used is listed by its number in the file.
    """
    folder = existing_folder("--images", images)
    instances = read_instances(file)
    pictures = take_split(_pictures(instances), lambda item: str(item.entry["id"]), split, val_fraction)
    numbers = {entry_id: number for number, entry_id in enumerate(instances.images, start=1)}
    reading = Reading(str(file))
    for picture in pictures:
        if count is not None and len(reading.dialogues) == count:
            break
        number, name = numbers[picture.entry["id"]], str(picture.entry["id"])
        rng = np.random.default_rng((seed, number))
        try:
            path = picture_of(folder, picture.entry["file_name"])
            things = _things(instances, picture)
            check_characters(picture.entry["file_name"], "its file_name")
            size = (picture.entry["width"], picture.entry["height"])
            if upright_size(path) != size:
                raise ValueError(f"{path} has another size than the {size[0]}x{size[1]} of the annotations")
            parts = any(thing.part_of is not None for thing in things)
            made = make_rounds(things, rng, int(rng.integers(2, rounds + 1)), forms=forms, all_of_parts=parts)
        except UNUSABLE as error:
            reading.bad.append(BadRecord(number, name, reason_of(error)))
            continue
        if len(made) > 1:
            records = tuple(thing.record() for thing in things)
            reading.dialogues.append(DialogueRecord(f"{file.stem}-{name}", path, *size, tuple(made), records))
    return reading


def _pictures(instances: Instances) -> list[_Picture]:
    by_image: dict[Any, list[Entry]] = defaultdict(list)
    for annotation in instances.annotations.values():
        by_image[annotation["image_id"]].append(annotation)
    return [_Picture(entry, tuple(by_image[number])) for number, entry in instances.images.items() if by_image[number]]


def _things(instances: Instances, picture: _Picture) -> tuple[Thing, ...]:
    crowded = {entry["category_id"] for entry in picture.annotations if entry.get("iscrowd")}
    kept = [entry for entry in picture.annotations if entry["category_id"] not in crowded]
    if len(kept) > MAX_THINGS:
        raise ValueError(f"it has {len(kept)} objects, more than {MAX_THINGS}")
    places = {entry["id"]: place for place, entry in enumerate(kept)}
    return tuple(_made(instances, kept, places, picture))


def _made(instances: Instances, kept: Sequence[Entry], places: dict[Any, int], picture: _Picture) -> Iterator[Thing]:
    for entry in kept:
        try:
            mask = segmentation_to_mask(entry["segmentation"], picture.entry["height"], picture.entry["width"])
        except ValueError as error:
            raise ValueError(f"annotation {entry['id']}: {error}") from error
        whole = entry.get("obj_ann_id", entry["id"])  # PACO: the object that an annotated part belongs to
        part_of = places.get(whole) if whole != entry["id"] else None
        name = instances.categories[entry["category_id"]]["name"]
        check_characters(name, f"the name of category {entry['category_id']}")
        yield Thing((_noun(name),), mask, part_of)


def _noun(name: str) -> str:
    """PACO's "mug:handle" is a handle; LVIS's "car_(automobile)" is a car."""
    return name.split(":")[-1].split("_(")[0].replace("_", " ")
