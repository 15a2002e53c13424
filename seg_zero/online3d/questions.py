"""Questions about a scan in a folder: its frames are read again from the sequence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seg_zero.encoders.spaces import Space
from seg_zero.errors import InputError
from seg_zero.online3d.answers.ask import FRAMES, MIN_SCORE, Answerer, SceneAnswer, ask, check_min_score
from seg_zero.online3d.answers.texts import CANONICAL, described, relevance
from seg_zero.online3d.config import SceneConfig
from seg_zero.online3d.inputs.frames import BadFrame, Frame
from seg_zero.online3d.inputs.loaders.layouts import open_sequence
from seg_zero.online3d.results.files import read_result
from seg_zero.online3d.results.result import Result
from seg_zero.online3d.results.views import best_frames
from seg_zero.online3d.scan import ScanSummary, read_summary
from seg_zero.prompting import check_question

if TYPE_CHECKING:
    from seg_zero.encoders.text import TextEncoder


@dataclass(frozen=True)
class FinishedScan:
    """A scan on disk and where its frames are."""

    folder: Path
    result: Result
    summary: ScanSummary

    @property
    def config(self) -> SceneConfig:
        return SceneConfig().replaced(**self.summary.settings)

    def described(self) -> Space:
        """The encoder of the objects' vectors. Raises InputError if they have none."""
        if not self.summary.features or not self.result.features.shape[1]:
            raise InputError(f"the objects of {self.folder} have no vectors; scan again with --features")
        return Space.parse(self.summary.features)

    def frames(self, count: int) -> tuple[list[Frame], list[str]]:
        """The ``count`` frames that show most objects, and those of them that cannot be read, in words."""
        sequence = open_sequence(Path(self.summary.sequence), self.summary.layout)
        keys = {key.number: key for key in sequence.key_frames(self.config.seg_add_interval)}
        frames, left_out = [], []
        for number in best_frames(self.result.key_frames, count):
            try:
                if number not in keys:
                    raise BadFrame(f"frame {number} is no longer in {self.summary.sequence}")
                frames.append(sequence.read(keys[number]))
            except BadFrame as problem:
                left_out.append(str(problem))
        return frames, left_out


def open_scan(folder: Path) -> FinishedScan:
    """A finished scan. Raises InputError if there is none, or if it is not known of which sequence it is."""
    result, summary = read_result(folder), read_summary(folder)
    if summary is None:
        raise InputError(f"{folder} has no scan.json, which names the sequence; scan it again")
    return FinishedScan(folder, result, summary)


def check_ask(question: str, frames: int, min_score: float) -> None:
    """Raises InputError for what :func:`ask_scan` would refuse, before any model is loaded."""
    check_question(question)
    check_min_score(min_score)
    if frames < 1:
        raise InputError(f"frames={frames} is less than 1; the default is {FRAMES}")


def ask_scan(
    scan: FinishedScan, question: str, answerer: Answerer, frames: int = FRAMES, min_score: float = MIN_SCORE
) -> SceneAnswer:
    """Ask on the ``frames`` key frames that show most objects; see :func:`seg_zero.online3d.answers.ask.ask`."""
    check_ask(question, frames, min_score)
    given, left_out = scan.frames(frames)
    size = scan.config.voxel_size
    return ask(scan.result, given, question, answerer, voxel_size=size, min_score=min_score, left_out=left_out)


def ask_by_text(scan: FinishedScan, question: str, encoder: TextEncoder, min_score: float = MIN_SCORE) -> SceneAnswer:
    """The objects whose vectors fit a text better than any object's do; no frame is read and no policy asked.

    encoder: of the scan's encoder, see :meth:`FinishedScan.described`. Scores are those of
    :func:`seg_zero.online3d.answers.texts.relevance`.
    """
    check_ask(question, FRAMES, min_score)
    question_vector, *canonical = encoder.encode([question, *CANONICAL]).numpy()
    features = scan.result.features
    scores = relevance(features, question_vector, np.stack(canonical))
    return SceneAnswer(question, scores, described(features).astype(np.int64), min_score)
