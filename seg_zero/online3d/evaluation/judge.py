"""Instances of a scene against its truth."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.errors import InputError, one_line
from seg_zero.files import read_json
from seg_zero.metrics import InstanceAP, map_to_truth
from seg_zero.metrics.instances3d import MIN_VERTICES
from seg_zero.online3d.answers.naming import read_names
from seg_zero.online3d.evaluation.register import moved_by, register
from seg_zero.online3d.evaluation.scannet import classes_of_table
from seg_zero.online3d.evaluation.truth import find_truth
from seg_zero.online3d.results.files import read_result
from seg_zero.online3d.results.result import Result
from seg_zero.online3d.scan import read_summary

MEAN = "mean of classes"


@dataclass(frozen=True)
class Judged:
    """One scene's metric, ready to be merged with others, and how many instances were predicted, judged and true.

    by_class: the metric with classes, None if they were not asked for.
    """

    metric: InstanceAP
    predicted: int
    kept: int
    true: int
    by_class: InstanceAP | None = None


def judge(
    points: np.ndarray,
    masks: np.ndarray,
    truth_points: np.ndarray,
    truth_ids: np.ndarray,
    scores: np.ndarray | None = None,
    min_vertices: int = MIN_VERTICES,
    valid_classes: Collection[int] | None = None,
    classes: np.ndarray | None = None,
) -> Judged:
    """AP of one scene, class-agnostic and, given the class of each instance, by class.

    points: P x 3; masks: bool P x N; truth: V x 3 and V, class * 1000 + instance; classes: int N, those that are not
    valid count as no instance.
    """
    given = np.ones(masks.shape[1]) if scores is None else scores
    mapped = map_to_truth(truth_points, points, masks.T, min_vertices=min_vertices)
    metric = InstanceAP(valid_classes, min_vertices=min_vertices)
    metric.add(mapped.masks[mapped.kept], given[mapped.kept], truth_ids)
    by_class = None
    if classes is not None:
        by_class = InstanceAP(valid_classes, by_class=True, min_vertices=min_vertices)
        by_class.add(mapped.masks[mapped.kept], given[mapped.kept], truth_ids, classes[mapped.kept])
    counted = truth_ids >= 1000
    if valid_classes is not None:
        counted &= np.isin(truth_ids // 1000, list(valid_classes))
    _, sizes = np.unique(truth_ids[counted], return_counts=True)
    return Judged(metric, masks.shape[1], len(mapped.kept), int((sizes >= min_vertices).sum()), by_class)


@dataclass(frozen=True)
class Judgement:
    """Scans by name, all of them together, and by the names of classes if these were asked for.

    mean: over the classes that occur.
    """

    scans: dict[str, Judged]
    together: dict[str, float]
    classes: dict[str, dict[str, float]] = field(default_factory=dict)
    mean: dict[str, float] = field(default_factory=dict)

    def table(self) -> str:
        """One line for every scan, one for all, and one for every class."""
        wide = max(len(name) for name in (*self.scans, *self.classes, MEAN))
        lines = [f"{'':{wide}}     AP   AP50   AP25  instances (true)"]
        for name, one in self.scans.items():
            lines.append(f"{name:{wide}} {_columns(one.metric.result())}  {one.predicted} ({one.true})")
        if len(self.scans) > 1:
            lines.append(f"{'all':{wide}} {_columns(self.together)}")
        for name, values in {**self.classes, MEAN: self.mean}.items() if self.classes else ():
            lines.append(f"{name:{wide}} {_columns(values)}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        scans = {
            name: {**one.metric.result(), "predicted": one.predicted, "judged": one.kept, "true": one.true}
            for name, one in self.scans.items()
        }
        with_classes = {"classes": self.classes, "mean_of_classes": self.mean} if self.classes else {}
        return {"together": self.together, "scans": scans, **with_classes}


def _columns(values: dict[str, float]) -> str:
    return " ".join(f"{values[name]:6.3f}" for name in ("AP", "AP50", "AP25"))


def read_classes(path: Path) -> dict[str, int]:
    """Names of classes with their numbers in the truth, from a JSON object or the table of labels of ScanNet (.tsv).

    Raises InputError for anything else.
    """
    if path.suffix == ".tsv":
        return classes_of_table(path)
    try:
        found = read_json(path)
        classes = {str(name): int(number) for name, number in found.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f'{path} holds no classes ({one_line(error)}); give JSON such as {{"chair": 2}}') from error
    if not classes or min(classes.values()) < 1 or len(set(classes.values())) < len(classes):
        raise InputError(f"{path}: numbers of classes are {sorted(classes.values())}; give each its own, from 1 up")
    return classes


def judge_folders(
    folders: Sequence[Path],
    truth: Path | None = None,
    min_vertices: int = MIN_VERTICES,
    classes: Mapping[str, int] | None = None,
    registered: bool = False,
) -> Judgement:
    """Judge scans on disk.

    truth: of the one scan, see :func:`find_truth`; None takes that in the folder of each one's sequence. classes:
    numbers by the names that ``labels.json`` of each scan uses; only these classes count then. Without, those of the
    data set, which must be the same for all scans. registered: first bring the truth onto the points of the scan.
    """
    if truth is not None and len(folders) > 1:
        raise InputError(f"--truth {truth} is of one scan, but {len(folders)} were given; judge them one by one")
    scans: dict[str, Judged] = {}
    together: InstanceAP | None = None
    by_class = InstanceAP(None if classes is None else set(classes.values()), by_class=True, min_vertices=min_vertices)
    for folder in folders:
        result = read_result(folder)
        own = None if classes is None else _classes_of(folder, result, classes)
        scene = find_truth(truth or _own_truth(folder))
        valid = scene.valid if classes is None else set(classes.values())
        points = scene.truth.points
        if registered:
            points = moved_by(register(points, result.points), points)
        one = judge(result.points, result.masks, points, scene.truth.ids, None, min_vertices, valid, own)
        if together is None:
            together = InstanceAP(valid, min_vertices=min_vertices)
        elif together.valid_classes != one.metric.valid_classes:
            raise InputError(f"{folder} is of another data set than {folders[0]}; judge them apart")
        scans[str(folder)] = one
        together.merge(one.metric)
        if one.by_class is not None:
            by_class.merge(one.by_class)
    if together is None:
        raise InputError("no scan was given; name at least one folder")
    if classes is None:
        return Judgement(scans, together.result())
    names = {number: name for name, number in classes.items()}
    found = {names[number]: values for number, values in by_class.by_classes().items()}
    return Judgement(scans, together.result(), found, by_class.result())


def _classes_of(folder: Path, result: Result, classes: Mapping[str, int]) -> np.ndarray:
    names = read_names(folder, result)
    if names is None:
        raise InputError(f"the objects of {folder} have no names; give them with `seg-zero scan label {folder}`")
    return np.array([classes.get(name, 0) for name in names], dtype=np.int64)


def _own_truth(folder: Path) -> Path:
    summary = read_summary(folder)
    if summary is None:
        raise InputError(f"{folder} does not say which sequence it is of; give --truth")
    return Path(summary.sequence)
