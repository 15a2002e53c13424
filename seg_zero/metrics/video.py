"""Region similarity J, boundary accuracy F and J&F of masks in video, as DAVIS defines them.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016. ReVOS, MeViS
and Ref-DAVIS report the means over the frames of an expression, then over expressions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import distance_transform_edt

from seg_zero.errors import InputError
from seg_zero.metrics.reasoning import iou_of

BOUNDARY_TOLERANCE = 0.008  # of the image diagonal


def region_similarity(prediction: np.ndarray, truth: np.ndarray) -> float:
    """J: the IoU of two boolean H x W masks; 1 if both are empty. Raises InputError for different shapes."""
    _check(prediction, truth)
    return iou_of(int((prediction & truth).sum()), int((prediction | truth).sum()))


def boundary_accuracy(prediction: np.ndarray, truth: np.ndarray, tolerance: float = BOUNDARY_TOLERANCE) -> float:
    """F: the F-measure of the boundaries of two boolean H x W masks.

    A boundary pixel is right if one of the other boundary lies within ``tolerance`` times the diagonal, rounded up, in
    pixels. Without any boundary on one side that side's fraction is 1 and the other's 0; without any on both sides F is
    1. Raises InputError for different shapes.
    """
    _check(prediction, truth)
    reach = np.ceil(tolerance * np.hypot(*truth.shape))
    found, true = mask_boundary(prediction), mask_boundary(truth)
    if not found.any() or not true.any():
        return 0.0 if found.any() or true.any() else 1.0
    precision = float((distance_transform_edt(~true)[found] <= reach).mean())
    recall = float((distance_transform_edt(~found)[true] <= reach).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def mask_boundary(mask: np.ndarray) -> np.ndarray:
    """The pixels of a boolean H x W mask, or just before it, whose right, lower or lower right neighbour differs.

    This is the one-sided boundary of DAVIS; the edge of the image is none.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    differs: np.ndarray = (here ^ padded[:-1, 1:]) | (here ^ padded[1:, :-1]) | (here ^ padded[1:, 1:])
    return differs


def _check(prediction: np.ndarray, truth: np.ndarray) -> None:
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if mask.ndim != 2 or mask.dtype != bool:
            raise InputError(f"the {name} is {mask.dtype} of shape {mask.shape}; give a boolean array H x W")
    if prediction.shape != truth.shape:
        raise InputError(f"the prediction has shape {prediction.shape} and the truth {truth.shape}; resize one of them")


@dataclass(frozen=True)
class ClipScore:
    """Means over the frames of one expression, each 0 to 1."""

    j: float
    f: float
    frames: int

    @property
    def j_and_f(self) -> float:
        return (self.j + self.f) / 2


def score_clip(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> ClipScore:
    """J and F over the (prediction, truth) masks of a clip's frames. Raises InputError without frames."""
    scores = [(region_similarity(*pair), boundary_accuracy(*pair)) for pair in pairs]
    if not scores:
        raise InputError("the clip has no frames to score")
    j, f = np.mean(scores, axis=0)
    return ClipScore(float(j), float(f), len(scores))


@dataclass
class VideoMetrics:
    """Means over expressions. ``add`` each expression's score once; ``result`` gives J, F, J&F and count."""

    scores: list[ClipScore] = field(default_factory=list)

    def add(self, score: ClipScore) -> None:
        self.scores.append(score)

    def merge(self, other: VideoMetrics) -> None:
        self.scores += other.scores

    def result(self) -> dict[str, float]:
        """Raises InputError without scores."""
        if not self.scores:
            raise InputError("there are no expressions to score")
        j, f = (float(np.mean([getattr(score, name) for score in self.scores])) for name in ("j", "f"))
        return {"J": j, "F": f, "J&F": (j + f) / 2, "count": len(self.scores)}
