"""LISA++ (arXiv 2312.17240), instance segmentation: reasoning questions about objects of COCO 2017 train.

The published file is a JSON list. Of each entry this builder reads ``English Question``, ``img_path`` (the picture's
name in train2017) and ``ID`` (the ids of the target annotations in COCO's ``instances_train2017.json``). The masks
are COCO's own; the copies of them under ``points`` are not read.
"""

from __future__ import annotations

import argparse
from pathlib import Path, PurePosixPath

from seg_zero.data.builders.build import Source
from seg_zero.data.builders.instances import (
    Entry,
    Instances,
    Record,
    existing_folder,
    load_record,
    read_instances,
    read_json,
    shape_of,
)
from seg_zero.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--questions", metavar="FILE", required=True, help="data.json of LISA_Plus_Instance_Seg")
    parser.add_argument("--instances", metavar="FILE", required=True, help="COCO's instances_train2017.json")
    parser.add_argument("--images", metavar="FOLDER", required=True, help="COCO train2017 images")


def source(args: argparse.Namespace) -> Source[Record]:
    """A row per entry. Raises InputError for files that are missing or of another kind."""
    images = existing_folder("--images", args.images)
    path = Path(args.questions)
    entries = read_json(path, "question file", omit="points")
    if entries == []:
        raise InputError(f"{path} holds no questions; give data.json of LISA_Plus_Instance_Seg")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path} is not a list of questions; give data.json of LISA_Plus_Instance_Seg")
    if "English Question" not in entries[0]:
        raise InputError(
            f"{path} has no 'English Question' in its first entry; give data.json of LISA_Plus_Instance_Seg"
        )
    instances = read_instances(Path(args.instances))
    return Source([_record(entry, number, instances, images) for number, entry in enumerate(entries)], load_record)


def _record(entry: Entry, number: int, instances: Instances, images: Path) -> Record:
    """The entry's record; one with a problem if the entry cannot be used."""
    name = f"lisa_plus_{number}"
    try:
        question = entry.get("English Question")
        if not isinstance(question, str):
            raise ValueError("it has no 'English Question', or one that is not text")
        targets = [_annotation(target, instances) for target in _ids(entry)]
        image_ids = {target["image_id"] for target in targets}
        image = instances.images.get(image_ids.pop())
        if image_ids or image is None:
            raise ValueError(f"its annotations are not all of one image in {instances.path}")
        named = PurePosixPath(str(entry.get("img_path"))).name
        file_name = str(image.get("file_name"))
        if PurePosixPath(file_name).name != named:
            raise ValueError(
                f"its picture is {named}, but its annotations are of {file_name}; give --instances of COCO 2017"
            )
    except ValueError as error:
        return Record(name, "", images, 0, 0, problem=str(error))
    shapes = tuple(shape_of(target) for target in targets)
    return Record(name, question, images / named, image["height"], image["width"], shapes)


def _ids(entry: Entry) -> list[int]:
    """The ids of the targets, each once. Raises ValueError if they are not a list of whole numbers."""
    ids = entry.get("ID")
    if (
        not isinstance(ids, list)
        or not ids
        or not all(str(number).isascii() and str(number).isdigit() for number in ids)
    ):
        raise ValueError(f"its 'ID' must list annotation ids, but is {ids!r}")
    return list(dict.fromkeys(int(number) for number in ids))


def _annotation(number: int, instances: Instances) -> Entry:
    annotation = instances.annotations.get(number)
    if annotation is None:
        raise ValueError(
            f"annotation id {str(number)[:20]} is not in {instances.path}; it belongs to other annotations"
        )
    return annotation
