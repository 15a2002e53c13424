"""Instances of a scene against its truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seg_zero.metrics import InstanceAP, map_to_truth
from seg_zero.metrics.instances3d import MIN_VERTICES


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
    names, sizes = np.unique(truth_ids[truth_ids >= 1000], return_counts=True)
    return Judged(metric, masks.shape[1], len(mapped.kept), int((sizes >= min_vertices).sum()) if len(names) else 0)
