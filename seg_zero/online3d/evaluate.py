"""Instances of a scene against its truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.errors import InputError
from seg_zero.metrics import InstanceAP, map_to_truth
from seg_zero.metrics.instances3d import MIN_VERTICES
from seg_zero.online3d.outputs import read_result
from seg_zero.online3d.scan import read_summary
from seg_zero.online3d.synthetic.files import TRUTH, read_truth


@dataclass(frozen=True)
class Judged:
    """One scene's metric, ready to be merged with others, and how many instances were predicted, judged and true."""

    metric: InstanceAP
    predicted: int
    kept: int
    true: int


def judge(
    points: np.ndarray,
    masks: np.ndarray,
    truth_points: np.ndarray,
    truth_ids: np.ndarray,
    scores: np.ndarray | None = None,
    min_vertices: int = MIN_VERTICES,
    valid_classes: tuple[int, ...] | None = None,
) -> Judged:
    """Class-agnostic AP of one scene.

    points: P x 3; masks: bool P x N; truth: V x 3 and V, class * 1000 + instance.
    """
    given = np.ones(masks.shape[1]) if scores is None else scores
    mapped = map_to_truth(truth_points, points, masks.T, min_vertices=min_vertices)
    metric = InstanceAP(valid_classes, min_vertices=min_vertices)
    metric.add(mapped.masks[mapped.kept], given[mapped.kept], truth_ids)
    _, sizes = np.unique(truth_ids[truth_ids >= 1000], return_counts=True)
    return Judged(metric, masks.shape[1], len(mapped.kept), int((sizes >= min_vertices).sum()))


@dataclass(frozen=True)
class Judgement:
    """Scans by name, and all of them together."""

    scans: dict[str, Judged]
    together: dict[str, float]

    def table(self) -> str:
        """One line for every scan, and one for all."""
        wide = max(len(name) for name in (*self.scans, "all"))
        lines = [f"{'':{wide}}     AP   AP50   AP25  instances (true)"]
        for name, one in self.scans.items():
            lines.append(f"{name:{wide}} {_columns(one.metric.result())}  {one.predicted} ({one.true})")
        if len(self.scans) > 1:
            lines.append(f"{'all':{wide}} {_columns(self.together)}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        scans = {
            name: {**one.metric.result(), "predicted": one.predicted, "judged": one.kept, "true": one.true}
            for name, one in self.scans.items()
        }
        return {"together": self.together, "scans": scans}


def _columns(values: dict[str, float]) -> str:
    return " ".join(f"{values[name]:6.3f}" for name in ("AP", "AP50", "AP25"))


def judge_folders(folders: Sequence[Path], truth: Path | None = None, min_vertices: int = MIN_VERTICES) -> Judgement:
    """Judge scans on disk. truth: an npz for the one scan; None takes ``truth.npz`` in each one's sequence."""
    if truth is not None and len(folders) > 1:
        raise InputError(f"--truth {truth} is of one scan, but {len(folders)} were given; judge them one by one")
    scans: dict[str, Judged] = {}
    together = InstanceAP(min_vertices=min_vertices)
    for folder in folders:
        result = read_result(folder)
        true = read_truth(truth or _own_truth(folder))
        one = judge(result.points, result.masks, true.points, true.ids, min_vertices=min_vertices)
        scans[str(folder)] = one
        together.merge(one.metric)
    return Judgement(scans, together.result())


def _own_truth(folder: Path) -> Path:
    summary = read_summary(folder)
    if summary is None:
        raise InputError(f"{folder} does not say which sequence it is of; give --truth")
    return Path(summary.sequence) / TRUTH
