"""A small synthetic room, and a segmenter that answers with the truth about its frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from helpers.answers import answer_of
from PIL import Image

from seg_zero.online3d.synthetic.room import make_room
from seg_zero.online3d.synthetic.sequence import SyntheticSequence
from seg_zero.results.result import SegmentationResult

# Thresholds for 160 x 120 pixels.
SETTINGS = ["few_pixel=40", "voxel_size=0.05", "query_radius=0.06", "min_instance_points=30", "seg_add_interval=10"]
ROOM = make_room(3, boxes=4, spheres=2, size=(3.0, 2.6))


class TrueAnswers:
    """Answers every question with the thing ``identity``; in frames that ``wrong`` names, with ``instead``."""

    def __init__(
        self, sequence: SyntheticSequence, identity: int, wrong: Sequence[int] = (), instead: int | None = None
    ) -> None:
        self.sequence, self.identity, self.wrong, self.instead = sequence, identity, wrong, instead
        self.views = {sequence.view(row).colour.tobytes(): row for row in range(sequence.frames)}
        self.asked: list[int] = []

    def batch(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[SegmentationResult]:
        return [self._one(image, question) for image, question in zip(images, questions, strict=True)]

    def _one(self, image: Image.Image, question: str) -> SegmentationResult:
        row = self.views[np.asarray(image).tobytes()]
        self.asked.append(row * self.sequence.step)
        wrong = row * self.sequence.step in self.wrong
        if wrong and self.instead is None:
            return answer_of([], image.size, question, image=image, problem="no <answer>...</answer> block")
        mask = self.sequence.view(row).ids == (self.instead if wrong else self.identity)
        return answer_of([mask] if mask.any() else [], image.size, question, image=image)
