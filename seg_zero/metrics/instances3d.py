"""Average precision of 3D instances: the rules of the ScanNet benchmark on points, without torch.

    metric = InstanceAP()
    metric.add(masks, scores, truth_ids)            # bool N x V, N, int V = class * 1000 + instance
    metric.result()                                 # {"AP": ..., "AP50": ..., "AP25": ...}

AP is the mean over the IoUs 0.50, 0.55, ... 0.90, as the benchmark's own script computes it. docs/metrics.md says what
is left out of account. :func:`map_to_truth` brings predictions on other points to those of the truth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from seg_zero.errors import InputError

OVERLAPS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
LOOSE = 0.25
MIN_VERTICES = 100
MAX_DISTANCE = 0.15  # metres
AGNOSTIC = 1  # the class that all have if classes do not count
_PER_CLASS = 1000


@dataclass(frozen=True)
class Mapped:
    """Predictions on the points of the truth.

    nearest: int V, the reconstructed point of each point of the truth, -1 if none is near. masks: bool N x V.
    kept: indices of the N predictions of which enough arrived to be judged.
    """

    nearest: np.ndarray
    masks: np.ndarray
    kept: np.ndarray


def map_to_truth(
    truth_points: np.ndarray,
    points: np.ndarray,
    masks: np.ndarray,
    max_distance: float = MAX_DISTANCE,
    min_vertices: int = MIN_VERTICES,
    min_ratio: float = 0.75,
) -> Mapped:
    """Carry instances over to other points: each takes the nearest point that is part of any instance.

    truth_points: V x 3; points: P x 3; masks: bool N x P. A prediction is kept if its points of the truth are at least
    ``min_ratio`` of its own points in number, or more than ``min_vertices``.
    """
    from scipy.spatial import cKDTree  # slow to import, and most users of the metrics need none of it

    _check_masks(masks, len(points), "points")
    nearest = np.full(len(truth_points), -1, dtype=np.int64)
    inside = np.flatnonzero(masks.any(0))
    if len(inside):
        tree = cKDTree(points[inside].astype(np.float64))
        distance, place = tree.query(truth_points.astype(np.float64), distance_upper_bound=max_distance)
        near = np.isfinite(distance)
        nearest[near] = inside[place[near]]
    mapped = np.zeros((len(masks), len(truth_points)), dtype=bool)
    mapped[:, nearest >= 0] = masks[:, nearest[nearest >= 0]]
    arrived, own = mapped.sum(1), masks.sum(1)
    kept = np.flatnonzero((own > 0) & ((arrived >= min_ratio * own) | (arrived > min_vertices)))
    return Mapped(nearest, mapped, kept)


@dataclass(frozen=True)
class _Scene:
    """Counts of one scene and class: predictions N, instances M of the truth, all that matching needs.

    common: N x M. void: of each prediction, points outside valid classes. All predictions have enough points; the
    instances may be too small, and are then no miss.
    """

    scores: np.ndarray
    sizes: np.ndarray
    void: np.ndarray
    truth_sizes: np.ndarray
    common: np.ndarray


class InstanceAP:
    """Average precision over scenes; ``merge`` of shards equals one pass.

    valid_classes: class numbers that count, None for all above 0; points of other classes are void.
    by_class: whether a prediction must have the class of its instance; otherwise all have one class.
    """

    def __init__(
        self, valid_classes: Collection[int] | None = None, by_class: bool = False, min_vertices: int = MIN_VERTICES
    ) -> None:
        self.valid_classes = None if valid_classes is None else frozenset(int(one) for one in valid_classes)
        self.by_class = by_class
        self.min_vertices = min_vertices
        self._scenes: dict[int, list[_Scene]] = defaultdict(list)

    def add(
        self,
        masks: np.ndarray,
        scores: Sequence[float] | np.ndarray,
        truth: np.ndarray,
        classes: np.ndarray | None = None,
    ) -> None:
        """One scene. masks: bool N x V; scores: N; truth: int V, class * 1000 + instance, 0 for none; classes: int N.

        Raises InputError for shapes that do not fit, and for missing classes if they count.
        """
        truth = np.asarray(truth)
        _check_masks(masks, len(truth), "truth")
        scores = np.asarray(scores, dtype=np.float64)
        if scores.shape != (len(masks),):
            raise InputError(f"{len(masks)} masks have {scores.shape} scores; give one for each")
        if self.by_class and (classes is None or len(classes) != len(masks)):
            raise InputError(f"{len(masks)} masks have no class each; give classes, or by_class=False")
        truth_classes = truth // _PER_CLASS
        valid = truth_classes > 0
        if self.valid_classes is not None:
            valid = np.isin(truth_classes, list(self.valid_classes))
        large = masks.sum(1) >= self.min_vertices
        names = np.unique(truth[valid])
        kinds = names // _PER_CLASS if self.by_class else np.full(len(names), AGNOSTIC)
        given = np.asarray(classes) if self.by_class and classes is not None else np.full(len(masks), AGNOSTIC)
        counted = self.valid_classes if self.by_class and self.valid_classes is not None else {*kinds, *given}
        for kind in sorted(int(one) for one in counted):
            mine = masks[large & (given == kind)]
            instances = names[kinds == kind]
            self._scenes[kind].append(
                _Scene(
                    scores[large & (given == kind)],
                    mine.sum(1),
                    mine[:, ~valid].sum(1),
                    np.array([np.count_nonzero(truth == name) for name in instances], dtype=np.int64),
                    np.stack([mine[:, truth == name].sum(1) for name in instances], axis=1)
                    if len(instances)
                    else np.zeros((len(mine), 0), dtype=np.int64),
                )
            )

    def merge(self, other: InstanceAP) -> InstanceAP:
        """Add the scenes of ``other``; returns self."""
        mine = (self.valid_classes, self.by_class, self.min_vertices)
        if mine != (other.valid_classes, other.by_class, other.min_vertices):
            raise InputError("two metrics with different classes or sizes cannot be merged; use one setting")
        for kind, scenes in other._scenes.items():
            self._scenes[kind] += scenes
        return self

    def at(self, overlap: float) -> dict[int, float]:
        """AP of each class at one IoU; NaN for classes that no scene has."""
        return {kind: _precision(scenes, overlap, self.min_vertices) for kind, scenes in self._scenes.items()}

    def result(self) -> dict[str, float]:
        """AP (mean over :data:`OVERLAPS`), AP50 and AP25, means over the classes that occur; NaN if none does."""
        strict = [_mean(list(self.at(overlap).values())) for overlap in OVERLAPS]
        return {"AP": _mean(strict), "AP50": strict[0], "AP25": _mean(list(self.at(LOOSE).values()))}

    def by_classes(self) -> dict[int, dict[str, float]]:
        """The same three numbers for every class that occurs."""
        tables = [self.at(overlap) for overlap in OVERLAPS]
        loose = self.at(LOOSE)
        return {
            kind: {"AP": _mean([table[kind] for table in tables]), "AP50": tables[0][kind], "AP25": loose[kind]}
            for kind in sorted(loose)
            if not np.isnan(loose[kind])
        }


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _precision(scenes: list[_Scene], overlap: float, min_vertices: int) -> float:
    scores: list[float] = []
    hits: list[bool] = []
    missed = 0
    for scene in scenes:
        found, right, lost = _match(scene, overlap, min_vertices)
        scores += found
        hits += right
        missed += lost
    if not any((scene.truth_sizes >= min_vertices).any() for scene in scenes):
        return float("nan")
    if not any(len(scene.scores) for scene in scenes):
        return 0.0
    return _area(np.array(scores), np.array(hits, dtype=bool), missed)


def _match(scene: _Scene, overlap: float, min_vertices: int) -> tuple[list[float], list[bool], int]:
    """Scores of the predictions that count, which of them are right, and how many instances are missed."""
    union = scene.sizes[:, None] + scene.truth_sizes[None] - scene.common
    above = scene.common > overlap * union
    small = scene.truth_sizes < min_vertices
    taken = np.zeros(len(scene.scores), dtype=bool)
    scores: list[float] = []
    hits: list[bool] = []
    missed = 0
    for column in np.flatnonzero(~small):
        mine = np.flatnonzero(above[:, column] & ~taken)
        taken[mine] = True
        if len(mine):  # the best one is right, any other a repetition
            ranked = sorted(scene.scores[mine].tolist(), reverse=True)
            scores += ranked
            hits += [True] + [False] * (len(ranked) - 1)
        else:
            missed += 1
    ignored = scene.void + scene.common[:, small].sum(1)
    for row in np.flatnonzero(~above.any(1)):
        if ignored[row] <= overlap * scene.sizes[row]:
            scores.append(float(scene.scores[row]))
            hits.append(False)
    return scores, hits, missed


def _area(scores: np.ndarray, hits: np.ndarray, missed: int) -> float:
    """Area under precision over recall as the benchmark sums it: trapezoids, from recall 0 with precision 1."""
    total = int(hits.sum())
    if not total:
        return 0.0
    order = np.argsort(scores, kind="stable")
    ranked, right = scores[order], hits[order]
    _, starts = np.unique(ranked, return_index=True)
    before = np.concatenate([[0], np.cumsum(right)])[starts]
    true = total - before
    precision = np.append(true / (len(ranked) - starts), 1.0)
    recall = np.append(true / (total + missed), 0.0)
    around = np.concatenate([recall[:1], recall, [0.0]])
    return float(precision @ ((around[:-2] - around[2:]) / 2))


def _check_masks(masks: np.ndarray, count: int, of: str) -> None:
    if masks.dtype != bool or masks.ndim != 2 or masks.shape[1] != count:
        raise InputError(f"masks have shape {masks.shape} and type {masks.dtype}; give bool N x {count}, as the {of}")
