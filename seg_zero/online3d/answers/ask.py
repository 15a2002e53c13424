"""A question about a scan: the policy answers it on some frames, and its masks vote for the objects in 3D."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.online3d.inputs.frames import Frame
from seg_zero.online3d.results.result import Result
from seg_zero.online3d.results.views import InstanceViews
from seg_zero.prompting import check_question

if TYPE_CHECKING:
    from seg_zero.results.result import SegmentationResult

MIN_SCORE = 0.5
MIN_PIXELS = 50  # of an object, below which a frame says nothing about it
FRAMES = 8


class Answerer(Protocol):
    """What :class:`seg_zero.pipeline.ReasoningSegmenter` does with several pictures."""

    def batch(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[SegmentationResult]: ...


@dataclass(frozen=True)
class AskedView:
    """A frame that the question was asked about.

    seen: int32 H x W, the column of the object at each pixel, -1 for none. result: the policy's answer.
    """

    number: int
    seen: np.ndarray
    result: SegmentationResult

    def votes(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of each of ``count`` objects that the answer covers, and all of its pixels, int N each.

        Both are 0 for objects with few pixels here, and for all if the answer is unusable.
        """
        inside = self.seen >= 0
        whole = np.bincount(self.seen[inside], minlength=count)
        covered = np.bincount(self.seen[inside & self.result.mask], minlength=count)
        counts = (whole >= MIN_PIXELS) & (self.result.problem is None)
        return np.where(counts, covered, 0), np.where(counts, whole, 0)


@dataclass(frozen=True)
class SceneAnswer:
    """Objects that answer a question, by column of the scan's result.

    scores: float N, how much of what the frames show of each object was answered, 0 to 1. asked: int N, frames that
    showed it. views: the frames; left_out: those that could not be read.
    """

    question: str
    scores: np.ndarray
    asked: np.ndarray
    min_score: float
    views: tuple[AskedView, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def found(self) -> list[int]:
        """Columns of the objects with at least ``min_score``, best first."""
        order = np.argsort(-self.scores, kind="stable")
        return [int(column) for column in order if self.scores[column] >= self.min_score and self.asked[column]]


def ask(
    result: Result,
    frames: Iterable[Frame],
    question: str,
    answerer: Answerer,
    *,
    voxel_size: float,
    min_score: float = MIN_SCORE,
    left_out: Sequence[str] = (),
) -> SceneAnswer:
    """Ask about each frame and let the masks vote over the objects of a scan.

    An object's score is the number of its pixels inside the answers' masks over the number of all its pixels, summed
    over the frames. Frames whose answer cannot be read do not count. left_out: passed on.
    Raises InputError for a question or score that cannot be used, if there is no frame, and if there is no object.
    """
    check_question(question)
    check_min_score(min_score)
    if not result.count:
        raise InputError("the scan has no objects to ask about; scan with more frames or better masks")
    given = list(frames)
    if not given:
        raise InputError(f"no frame could be asked about{f': {left_out[0]}' if left_out else '; give at least one'}")
    views = InstanceViews(result, voxel_size)
    answers = answerer.batch(
        [Image.fromarray(np.ascontiguousarray(frame.colour)) for frame in given], [question] * len(given)
    )
    asked = tuple(
        AskedView(frame.number, views.see(frame), answer) for frame, answer in zip(given, answers, strict=True)
    )
    counts = [view.votes(result.count) for view in asked]
    covered, whole = (np.sum(part, axis=0) for part in zip(*counts, strict=True))
    shown = np.sum([part > 0 for _, part in counts], axis=0)
    return SceneAnswer(question, covered / np.maximum(whole, 1), shown, min_score, asked, tuple(left_out))


def check_min_score(min_score: float) -> None:
    """Raises InputError unless it is above 0 and at most 1."""
    if not 0 < min_score <= 1:
        raise InputError(f"min_score={min_score} is not above 0 and at most 1; the default is {MIN_SCORE}")
