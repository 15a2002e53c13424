"""RefCOCO, RefCOCO+ and RefCOCOg in the original files: COCO instances and a pickle (or JSON) of refs."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from seg_zero.data.builders.build import Source
from seg_zero.data.builders.instances import (
    Entry,
    Instances,
    Record,
    Shape,
    existing_folder,
    load_record,
    read_instances,
    read_json,
    shape_of,
)
from seg_zero.data.builders.restricted_pickle import read_plain_pickle
from seg_zero.data.inputs import find_file
from seg_zero.errors import InputError

DATASETS = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}  # with the usual choice of split_by
IMAGE_FOLDERS = ("images/mscoco/images/train2014", "images/train2014", "train2014")


def add_refs_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that RefCOCO and gRefCOCO share."""
    parser.add_argument("--split", default="train", help="train, val, testA ... as in the refs (default: train)")
    parser.add_argument(
        "--root",
        metavar="FOLDER",
        help="folder in the refer layout, from which the three below are taken: DATASET/instances.json, "
        f"DATASET/refs(SPLIT_BY).p and the first of {', '.join(IMAGE_FOLDERS)}",
    )
    parser.add_argument("--instances", metavar="FILE", help="COCO annotations of the dataset, instances.json")
    parser.add_argument("--refs", metavar="FILE", help="the expressions, such as 'refs(unc).p', or a JSON export")
    parser.add_argument("--images", metavar="FOLDER", help="COCO train2014 images")
    parser.add_argument(
        "--sentences", choices=("all", "first"), default="all", help="rows per object: one for each sentence, or one"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", choices=tuple(DATASETS), required=True, help="which of the three")
    parser.add_argument(
        "--split_by", choices=("unc", "google", "umd"), help="whose splits (default: umd for refcocog, otherwise unc)"
    )
    add_refs_arguments(parser)


def source(args: argparse.Namespace) -> Source[Record]:
    """A row per sentence of the split. Raises InputError for files that are missing or of another kind."""
    split_by = args.split_by or DATASETS[args.dataset]
    return refs_source(args, args.dataset, split_by, (f"refs({split_by}).p",))


def refs_source(
    args: argparse.Namespace, dataset: str, split_by: str, refs_names: tuple[str, ...], *, skip_crowds: bool = False
) -> Source[Record]:
    """Like :func:`source`; ``refs_names`` are the names that the refs may have in the layout of ``--root``.

    skip_crowds: targets that the annotations call a crowd are none.
    """
    instances_path, refs_path, images = _files(args, dataset, refs_names)
    refs = read_refs(refs_path, args.split)
    instances = read_instances(instances_path)
    prefix = f"{dataset}_{split_by}"
    records = []
    for number, ref in enumerate(refs):
        found = _records(ref, prefix, instances, images, number, skip_crowds)
        records.extend(found[:1] if args.sentences == "first" else found)
    return Source(records, load_record)


def _files(args: argparse.Namespace, dataset: str, refs_names: tuple[str, ...]) -> tuple[Path, Path, Path]:
    missing = [f"--{name}" for name in ("instances", "refs", "images") if getattr(args, name) is None]
    if missing and args.root is None:
        raise InputError(f"{', '.join(missing)} missing; give the files, or --root with all of them")
    instances, refs, images = args.instances, args.refs, args.images
    if missing:
        folder = existing_folder("--root", args.root)
        instances = instances or folder / dataset / "instances.json"
        refs = refs or _first(folder / dataset, refs_names)
        images = images or _first(folder, IMAGE_FOLDERS)
    return Path(instances), Path(refs), existing_folder("--images", images)


def _first(folder: Path, names: tuple[str, ...]) -> Path:
    found = [folder / name for name in names if (folder / name).exists()]
    if not found:
        raise InputError(f"{folder} has none of {', '.join(names)}; put it there, or give its option")
    return found[0]


def read_refs(path: Path, split: str) -> list[Entry]:
    """The refs of one split, from ``*.json`` or a pickle; InputError if there are none or it is another file."""
    refs = read_json(path, "refs file") if path.suffix == ".json" else read_plain_pickle(path)
    if not isinstance(refs, list) or not all(
        isinstance(ref, dict) and isinstance(ref.get("split"), str) for ref in refs
    ):
        raise InputError(f"{path} is not a list of refs with a split each; give 'refs(...).p' or its JSON export")
    chosen = [ref for ref in refs if ref["split"] == split]
    if not chosen:
        present = ", ".join(f"{name} ({count})" for name, count in Counter(ref["split"] for ref in refs).items())
        raise InputError(f"--split {split}: {path} has no such refs; it has {present or 'none at all'}")
    return chosen


def _targets(ref: Entry) -> list[int]:
    """Annotation ids; none if nothing matches, which gRefCOCO writes as [-1]. Raises ValueError if it is unclear."""
    ids = ref["ann_id"] if isinstance(ref["ann_id"], list) else [ref["ann_id"]]
    targets = [number for number in ids if number != -1]
    if ref.get("no_target") and targets:
        raise ValueError(f"it says no_target, but has the annotations {targets}")
    if not targets and not ref.get("no_target", ids == [-1]):
        raise ValueError("it has neither annotations nor no_target")
    return targets


def _shape(target: int, image_id: int, instances: Instances) -> Shape:
    annotation = instances.annotations.get(target)
    if annotation is None:
        raise ValueError(f"annotation id {target} is not in {instances.path}; it belongs to other annotations")
    if annotation["image_id"] != image_id:
        raise ValueError(
            f"annotation {target} is of image {annotation['image_id']} in {instances.path}, not of {image_id}; "
            "it belongs to other annotations"
        )
    return shape_of(annotation)


def _records(
    ref: Entry, prefix: str, instances: Instances, images: Path, number: int, skip_crowds: bool
) -> list[Record]:
    """The ref's records, one per sentence; one with a problem if the ref cannot be used."""
    name = f"{prefix}_{ref.get('ref_id', f'number{number}')}"
    try:
        image = instances.images.get(ref["image_id"])
        if image is None:
            raise ValueError(f"image id {ref['image_id']} is not in {instances.path}; it belongs to other annotations")
        targets = _targets(ref)
        shapes = tuple(_shape(target, ref["image_id"], instances) for target in targets)
        if skip_crowds:
            shapes = tuple(shape for shape in shapes if not instances.annotations[shape.annotation].get("iscrowd"))
            if targets and not shapes:
                raise ValueError(f"all of its targets are crowds (annotations {targets})")
        # The name in the ref ends in the annotation's id; the picture on disk has the one in the instances.
        file = find_file(images, image["file_name"])
        sentences = [(sentence["sent_id"], sentence["sent"]) for sentence in ref["sentences"]]
        if not sentences or not all(isinstance(text, str) for _, text in sentences):
            raise ValueError("it has no sentence, or one that is not text")
        return [
            Record(f"{name}_{sent_id}", text, file, image["height"], image["width"], shapes)
            for sent_id, text in sentences
        ]
    except KeyError as error:
        problem = f"the ref or its image has no {error}; is the file of this dataset?"
    except TypeError as error:
        problem = f"the ref or its image has an entry of another type than the original data ({error})"
    except ValueError as error:
        problem = str(error)
    return [Record(name, "", images, 0, 0, problem=problem)]
