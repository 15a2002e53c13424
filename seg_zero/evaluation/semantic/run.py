"""Judges label maps against a data set, resumable.

manifest.json           the settings that decide the results; another evaluation is refused here
parts/00003.jsonl       the confusions of PART_IMAGES pictures from 3 * PART_IMAGES, written when complete
maps/NAME.png           the label map of each picture
metrics.json            both rules, each class, and the pictures that could not be judged
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from seg_zero.data.label_maps import Pair
from seg_zero.errors import InputError
from seg_zero.evaluation.semantic.presets import LabelSet
from seg_zero.evaluation.store import MANIFEST, only_evaluation, open_folder
from seg_zero.files import make_folder, read_lines, write_image, write_json, write_text
from seg_zero.metrics.boundary import BoundaryConfusion, BoundaryRegions
from seg_zero.metrics.semantic import IGNORE, RULES, Confusion

PART_IMAGES = 32
MAPS = "maps"


class Labelled(Protocol):
    """A labelled picture, such as :class:`seg_zero.open_vocabulary.result.LabelledImage`."""

    @property
    def label_map(self) -> np.ndarray:
        """Integers H x W: 0 without a label, else 1 + the class."""
        ...

    def label_image(self) -> Image.Image: ...


class Labeller(Protocol):
    """What labels: :class:`seg_zero.open_vocabulary.segmenter.OpenVocabularySegmenter`, or a stand-in for it."""

    def segment(self, image: Path) -> Labelled: ...


def _no_cells() -> np.ndarray:
    return np.zeros((0, 3), dtype=np.int64)


@dataclass(frozen=True)
class Judged:
    """One picture. cells: int64 N x 3 of true class, predicted class, pixels; problem: why it was not judged.

    edges: the same of the boundaries, detectron2's rule; regions: int64 N x 3 of class, intersection and union of
    boundaries; both empty where the data set has no boundaries.
    """

    name: str
    cells: np.ndarray = field(default_factory=_no_cells, repr=False)
    problem: str | None = None
    edges: np.ndarray = field(default_factory=_no_cells, repr=False)
    regions: np.ndarray = field(default_factory=_no_cells, repr=False)

    def confusion(self, classes: int) -> Confusion:
        made = Confusion(classes)
        self.add_to(made)
        return made

    def add_to(self, total: Confusion) -> None:
        total.matrix[self.cells[:, 0], self.cells[:, 1]] += self.cells[:, 2]

    def record(self) -> dict[str, Any]:
        found = {"name": self.name, "cells": self.cells.tolist(), "problem": self.problem}
        if len(self.edges):
            found |= {"edges": self.edges.tolist(), "regions": self.regions.tolist()}
        return found


@dataclass(frozen=True)
class Results:
    """A finished evaluation: every picture in order, and the confusion of all."""

    data: LabelSet
    images: tuple[Judged, ...]
    settings: dict[str, Any]

    @cached_property
    def confusion(self) -> Confusion:
        total = Confusion(len(self.data.labels))
        for one in self.images:
            one.add_to(total)
        return total

    @cached_property
    def boundary(self) -> BoundaryConfusion:
        """Of all pictures; empty where the data set has no boundaries."""
        total = BoundaryConfusion(len(self.data.labels))
        for one in self.images:
            total.matrix[one.edges[:, 0], one.edges[:, 1]] += one.edges[:, 2]
        return total

    @cached_property
    def regions(self) -> BoundaryRegions:
        """Of all pictures; empty where the data set has no boundaries."""
        total = BoundaryRegions(len(self.data.labels))
        for one in self.images:
            total.intersection[one.regions[:, 0]] += one.regions[:, 1]
            total.union[one.regions[:, 0]] += one.regions[:, 2]
        return total

    def boundaries(self) -> dict[str, float]:
        """Means over the classes of the truth: boundary IoU by detectron2's rule and by regions, and the lower of IoU
        and the former."""
        there = self.confusion.matrix.sum(axis=1) > 0
        least = self.boundary.min_iou(self.confusion.iou("detectron2"))
        values = {"boundary_IoU": self.boundary.iou(), "boundary_IoU_regions": self.regions.iou(), "min_IoU": least}
        return {name: float(np.nanmean(value[there])) for name, value in values.items()}

    @property
    def names(self) -> list[str]:
        """Of the classes: the first synonym each."""
        return [label.split(",")[0].strip() for label in self.data.labels]

    @property
    def failed(self) -> list[Judged]:
        return [one for one in self.images if one.problem is not None]

    def record(self) -> dict[str, Any]:
        """What metrics.json holds."""
        total = self.confusion
        iou, accuracy, pixels = total.iou(self.data.rule), total.accuracy(), total.matrix.sum(axis=1)
        edges: list[dict[str, float | None]] = [{} for _ in self.names]
        if self.data.boundaries:
            pairs = zip(self.boundary.iou(), self.regions.iou(), strict=True)
            edges = [{"boundary_iou": _number(a), "boundary_iou_regions": _number(b)} for a, b in pairs]
        return {
            "images": len(self.images),
            "judged": len(self.images) - len(self.failed),
            **{rule: total.result(rule) for rule in RULES},
            **({"boundaries": self.boundaries()} if self.data.boundaries else {}),
            "classes": [
                {"name": name, "iou": _number(one), "accuracy": _number(right), "pixels": int(count), **edge}
                for name, one, right, count, edge in zip(self.names, iou, accuracy, pixels, edges, strict=True)
            ],
            "failed": [{"name": one.name, "problem": one.problem} for one in self.failed],
            "settings": self.settings,
        }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


Progress = Callable[[Judged, bool], None]


def evaluate_labels(
    load: Callable[[], Labeller],
    data: LabelSet,
    settings: dict[str, Any],
    out: Path,
    progress: Progress = lambda one, old: None,
) -> Results:
    """Label the pictures that ``out`` does not hold yet, and judge all.

    load: gives what labels them; called once, or never if nothing is left to do. settings: what decides the results
    beside the data set, for the manifest. progress: told of each picture, and whether an earlier call labelled it.

    A picture or map that cannot be used is listed and left out of the result; the next call tries it again. After an
    interruption the same call resumes, and writes the same metrics.json. Raises InputError for an evaluation with other
    settings in ``out``, and if no picture could be judged; the folder then stays free for another evaluation.
    """
    pairs = data.listing.pairs
    everything = {
        **settings,
        "dataset": data.name,
        "labels": list(data.labels),
        "images": len(pairs),
        "first": pairs[0].name,
        "last": pairs[-1].name,
        **({"boundaries": True} if data.boundaries else {}),
    }
    make_folder(out)
    with only_evaluation(out):
        open_folder(out, everything)
        known = {one.name: one for number in range(-(-len(pairs) // PART_IMAGES)) for one in _read(out, data, number)}
        for one in known.values():
            progress(one, True)
        only_once = cache(load)
        for number in range(-(-len(pairs) // PART_IMAGES)):
            part = pairs[number * PART_IMAGES : (number + 1) * PART_IMAGES]
            if all(pair.name in known for pair in part):
                continue
            made = []
            for pair in part:
                if pair.name not in known:
                    known[pair.name] = _judged(only_once, pair, data, out)
                    progress(known[pair.name], False)
                made.append(known[pair.name])
            lines = [json.dumps(one.record(), ensure_ascii=False) for one in made]
            write_text(_part(out, number), "\n".join(lines) + "\n")
        results = Results(data, tuple(known[pair.name] for pair in pairs), everything)
        if len(results.failed) == len(pairs):
            _forget(out)
            raise InputError(f"none of {len(pairs)} pictures could be judged; the first: {results.failed[0].problem}")
        write_json(out / "metrics.json", results.record())
    return results


def _forget(out: Path) -> None:
    """Leave no evaluation behind that judged nothing: its folder can be used again with other labels."""
    shutil.rmtree(out / "parts", ignore_errors=True)
    (out / MANIFEST).unlink(missing_ok=True)


def map_path(out: Path, name: str) -> Path:
    """Where the label map of a picture lies: 0 without a label, else 1 + the class."""
    return out / MAPS / f"{name}.png"


def _judged(labeller: Callable[[], Labeller], pair: Pair, data: LabelSet, out: Path) -> Judged:
    try:
        truth = data.listing.truth(pair)
        found = labeller().segment(pair.image)
        height, width = found.label_map.shape
        if truth.shape != (height, width):
            raise InputError(
                f"label map {pair.truth} has {truth.shape[1]}x{truth.shape[0]} pixels, its picture {width}x{height}; "
                "give the map that belongs to the picture"
            )
        classes = np.where(found.label_map == 0, IGNORE, found.label_map - 1)
        confusion = Confusion(len(data.labels))
        confusion.add(classes, truth)
        edges, regions = _boundaries(classes, truth, data) if data.boundaries else (_no_cells(), _no_cells())
    except InputError as error:
        return Judged(pair.name, problem=str(error))
    make_folder(out / MAPS)
    write_image(map_path(out, pair.name), found.label_image())
    return Judged(pair.name, _cells(confusion.matrix), edges=edges, regions=regions)


def _cells(matrix: np.ndarray) -> np.ndarray:
    """Row, column and value of what is not 0, N x 3."""
    rows, columns = np.nonzero(matrix)
    return np.stack([rows, columns, matrix[rows, columns]], axis=1)


def _boundaries(classes: np.ndarray, truth: np.ndarray, data: LabelSet) -> tuple[np.ndarray, np.ndarray]:
    edges, regions = BoundaryConfusion(len(data.labels)), BoundaryRegions(len(data.labels))
    edges.add(classes, truth)
    regions.add(classes, truth)
    there = np.flatnonzero(regions.union)
    return _cells(edges.matrix), np.stack([there, regions.intersection[there], regions.union[there]], axis=1)


def _part(out: Path, number: int) -> Path:
    return out / "parts" / f"{number:05d}.jsonl"


def _read(out: Path, data: LabelSet, number: int) -> list[Judged]:
    """The pictures of a part that were judged; none if it is missing or damaged."""
    try:
        found = list(_records(_part(out, number), data))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return []
    return [one for one in found if one.problem is None]


def _records(path: Path, data: LabelSet) -> Iterator[Judged]:
    classes = len(data.labels)
    for line in read_lines(path):
        record = json.loads(line)
        cells = np.array(record["cells"], dtype=np.int64).reshape(-1, 3)
        true, predicted, counts = cells.T
        if (cells < 0).any() or (true >= classes).any() or (predicted > classes).any() or (counts == 0).any():
            raise ValueError(f"{path} holds cells outside {classes} classes")
        names = ("edges", "regions") if data.boundaries and record["problem"] is None else ()
        more = {name: np.array(record[name], dtype=np.int64).reshape(-1, 3) for name in names}
        if any((values < 0).any() or (values[:, 0] > classes).any() for values in more.values()):
            raise ValueError(f"{path} holds boundaries outside {classes} classes")
        yield Judged(record["name"], cells, record["problem"], **more)
