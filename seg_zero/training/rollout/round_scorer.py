"""SAM2 for the rounds of dialogues: the masks of an answer, which re-enter the conversation, and their IoU.

:class:`RoundScorer` takes the place of :class:`seg_zero.training.rollout.mask_scorer.MaskScorer` in the Ray actors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from seg_zero.dialogue.memory import Instance
from seg_zero.dialogue.references import Asked
from seg_zero.dialogue.renderers import renderer_for
from seg_zero.dialogue.session import segment
from seg_zero.images import load_image
from seg_zero.masks import decode_mask, encode_mask
from seg_zero.metrics import MaskCounts, count_pixels, iou_of
from seg_zero.objects import PromptObject
from seg_zero.training.rollout.embeddings import LatestEmbeddings
from seg_zero.training.rollout.mask_scorer import MaskScore

if TYPE_CHECKING:
    from seg_zero.segmenter import Embedding, Segmenter


@dataclass(frozen=True)
class RoundQuestion:
    """One answered round.

    image: file of the picture; row: number of the dialogue; truth: COCO RLE; objects: the answer, in pixels of the
    picture. way: how earlier masks re-enter, and instances: they, for the way ``mask`` alone, whose masks depend on
    them. with_mask: whether the score contains the mask.
    """

    image: str
    row: int
    truth: dict[str, Any] = field(repr=False)
    objects: tuple[PromptObject, ...]
    asked: Asked
    way: str
    instances: tuple[Instance, ...] = ()
    with_mask: bool = False


@dataclass(frozen=True, eq=False)
class RoundScore:
    """The score, the masks that count (boolean N x H x W; None if SAM2 failed), and their logits (N x h x w) for the
    way ``mask``."""

    score: MaskScore
    masks: np.ndarray | None = None
    low_res: np.ndarray | None = None

    def instance(self, number: int, name: str, shape: tuple[int, int]) -> Instance:
        """What later rounds can refer to: the masks with pixels, none where SAM2 failed. shape: H x W."""
        if self.masks is None:
            return Instance(number, name, np.zeros((0, *shape), dtype=bool))
        kept = np.flatnonzero(self.masks.any(axis=(1, 2)))
        return Instance(number, name, self.masks[kept], None if self.low_res is None else self.low_res[kept])


def _read(image: str) -> tuple[Image.Image, None]:
    return load_image(Path(image)), None


class RoundScorer:
    """A SAM2 with a cache of its latest image embeddings, at most ``cache_images``."""

    def __init__(self, segmenter: Segmenter, cache_images: int) -> None:
        self.segmenter = segmenter
        self._embeddings = LatestEmbeddings[str, None](segmenter, cache_images, _read, str)

    @property
    def images_embedded(self) -> int:
        return self._embeddings.computed

    @staticmethod
    def failed(problem: str) -> RoundScore:
        """The result where no actor could be asked."""
        return RoundScore(MaskScore(None, problem))

    def scores(self, questions: Sequence[RoundQuestion]) -> list[RoundScore]:
        """Score rounds of any dialogues, in any order. Never raises: a failure is reported in its score."""
        results: dict[int, RoundScore] = {}
        by_image: dict[str, list[int]] = {}
        for place, question in enumerate(questions):
            by_image.setdefault(question.image, []).append(place)
        for image, known in self._embeddings.of(list(by_image)):
            for place in by_image[image]:
                if isinstance(known, str):
                    results[place] = self.failed(known)
                else:
                    results[place] = self._score(known[0], questions[place])
        return [results[place] for place in range(len(questions))]

    def _score(self, embedding: Embedding, question: RoundQuestion) -> RoundScore:
        truth: np.ndarray | None = None
        try:
            truth = decode_mask(question.truth)
            renderer = renderer_for(question.way)
            found = segment(self.segmenter, renderer, embedding, question.objects, question.instances, question.asked)
            union = np.asarray(found.masks.any(axis=0))
            counts = count_pixels(union, truth)
        except Exception as error:
            counts = MaskCounts(answered=False) if truth is None else count_pixels(None, truth)
            problem = f"SAM2 failed on {question.image}, dialogue {question.row}: {error}"
            return RoundScore(MaskScore(None, problem, counts))
        mask = encode_mask(union) if question.with_mask else None
        score = MaskScore(iou_of(counts.intersection, counts.union), None, counts, mask)
        return RoundScore(score, found.masks, found.low_res if question.way == "mask" else None)
