"""Questions by category name, from COCO instances: every object of the category in the image is a target."""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from seg_zero.data.builders.build import Source
from seg_zero.data.builders.instances import (
    Entry,
    Instances,
    Record,
    existing_folder,
    load_record,
    read_instances,
    shape_of,
)
from seg_zero.data.inputs import find_file
from seg_zero.errors import InputError


@dataclass(frozen=True)
class ImageLabels:
    """A dataset's labels of an image: its file, and the categories known to be absent or not fully annotated."""

    file: Path
    absent: Collection[int]
    incomplete: Collection[int] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--instances", metavar="FILE", required=True, help="the annotations (JSON)")
    parser.add_argument("--images", metavar="FOLDER", required=True, help="the images' folder")
    parser.add_argument(
        "--max_objects", type=int, default=10, help="no question has more targets (default: %(default)s)"
    )
    parser.add_argument(
        "--negatives",
        type=int,
        default=0,
        metavar="N",
        help="questions per image about a category that is not in it (default: 0)",
    )


def source(args: argparse.Namespace) -> Source[Record]:
    """A row per image and category. Raises InputError for files that are missing or of another kind.

    COCO annotates its categories completely, so all others are absent. Crowd regions are ignored pixels.
    """
    images = existing_folder("--images", args.images)
    instances = read_instances(Path(args.instances))

    def labels(image: Entry, present: Collection[int]) -> ImageLabels:
        return ImageLabels(find_file(images, image["file_name"]), [c for c in instances.categories if c not in present])

    names = {number: str(category["name"]) for number, category in instances.categories.items()}
    return category_source("coco", instances, names, labels, args.max_objects, args.negatives)


def category_source(
    dataset: str,
    instances: Instances,
    questions: dict[int, str],
    labels: Callable[[Entry, Collection[int]], ImageLabels],
    max_objects: int,
    negatives: int,
) -> Source[Record]:
    """A question per image and category that is in it, and up to ``negatives`` about absent ones.

    questions: text by category id. labels: of an image entry and the ids of the categories annotated in it.
    The choice of absent categories depends only on the image's id.
    """
    if max_objects < 1 or negatives < 0:
        raise InputError(f"--max_objects {max_objects} --negatives {negatives}: give at least 1 and at least 0")
    by_image: dict[int, dict[int, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for annotation in instances.annotations.values():
        by_image[annotation["image_id"]][annotation["category_id"]].append(annotation)
    records = list(_orphans(dataset, instances, by_image))
    crowded = incomplete = 0
    for image_id, image in instances.images.items():
        groups = by_image.get(image_id, {})
        try:
            label = labels(image, groups.keys())
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"image {image_id} in {instances.path} has an entry missing or of another type ({error!r}); "
                "is the file of this dataset?"
            ) from error
        for category, entries in groups.items():
            if category not in questions:
                continue  # an orphan
            asked = _record(dataset, image, label.file, category, questions[category], entries)
            if category in label.incomplete:
                incomplete += 1
            elif len(asked.targets) > max_objects:
                crowded += 1
            elif asked.targets:  # a crowd alone is nothing to ask for
                records.append(asked)
        absent = sorted(c for c in label.absent if c not in groups and c in questions)
        for category in random.Random(image_id).sample(absent, min(negatives, len(absent))):
            records.append(_record(dataset, image, label.file, category, questions[category], []))
    notes = [f"questions with more than {max_objects} targets, not asked: {crowded}"] if crowded else []
    notes += [f"questions not annotated completely, not asked: {incomplete}"] if incomplete else []
    if not records:
        raise InputError(f"{instances.path} gives no question" + "".join(f"; {note}" for note in notes))
    return Source(records, load_record, tuple(notes))


def _record(dataset: str, image: Entry, file: Path, category: int, question: str, entries: list[Entry]) -> Record:
    return Record(
        id=f"{dataset}_{image['id']}_{category}",
        question=question,
        image=file,
        height=image["height"],
        width=image["width"],
        targets=tuple(shape_of(entry) for entry in entries if not entry.get("iscrowd")),
        ignore=tuple(shape_of(entry) for entry in entries if entry.get("iscrowd")),
    )


def _orphans(dataset: str, instances: Instances, by_image: dict[int, dict[int, list[Entry]]]) -> Iterator[Record]:
    """A record with a problem for annotations whose image or category the file does not have."""
    for image_id, groups in by_image.items():
        for category, entries in groups.items():
            if image_id not in instances.images:
                missing = f"image id {image_id}"
            elif category not in instances.categories:
                missing = f"category id {category}"
            else:
                continue
            problem = f"annotation {entries[0]['id']} is of {missing}, which {instances.path} does not have"
            yield Record(f"{dataset}_{image_id}_{category}", "", Path(), 0, 0, problem=problem)
