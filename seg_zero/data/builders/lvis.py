"""Questions by category name, from LVIS v1."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

from seg_zero.data.builders.build import Source
from seg_zero.data.builders.coco import ImageLabels, add_arguments, category_source
from seg_zero.data.builders.instances import Entry, Record, existing_folder, read_instances

__all__ = ["add_arguments", "readable_name", "source"]


def readable_name(name: str) -> str:
    """An LVIS category name as people write it: ``bow_(decorative_ribbons)`` is "bow (decorative ribbons)".

    The qualifier stays, since it tells categories apart; a synonym after it goes.
    """
    text = name.replace("_", " ")
    end = text.find(")")
    return " ".join((text if end < 0 else text[: end + 1]).split())


def source(args: argparse.Namespace) -> Source[Record]:
    """A row per image and category that is exhaustively annotated in it.

    ``--images`` holds the COCO 2017 folders train2017 and val2017, or is one of them. Raises InputError for
    files that are missing or of another kind.
    """
    folder = existing_folder("--images", args.images)
    instances = read_instances(Path(args.instances))
    layout = {name: (folder / name).is_dir() for name in ("train2017", "val2017")}

    def labels(image: Entry, _present: Collection[int]) -> ImageLabels:
        split, name = image["coco_url"].split("/")[-2:]
        return ImageLabels(
            file=folder / split / name if layout.get(split) else folder / name,
            absent=image["neg_category_ids"],
            incomplete=image["not_exhaustive_category_ids"],
        )

    names = {number: readable_name(category["name"]) for number, category in instances.categories.items()}
    return category_source("lvis", instances, names, labels, args.max_objects, args.negatives)
