"""SAM2 inside the reward: what IoU do the masks of a policy's boxes and points have?

:class:`MaskScorer` does the work and does not depend on Ray; :class:`MaskScorerActor` is the Ray actor that
all reward workers of a run share. Samples of one question share one image embedding.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
from PIL import Image

from seg_zero.data.augmentation import View
from seg_zero.data.source import RowSource, open_rows
from seg_zero.masks import encode_mask
from seg_zero.metrics import MaskCounts, count_pixels, iou_of
from seg_zero.objects import PromptObject
from seg_zero.training.environment import VISIBLE_GPUS
from seg_zero.training.rollout.embeddings import LatestEmbeddings
from seg_zero.training.settings import MaskScorerSettings

if TYPE_CHECKING:
    from seg_zero.segmenter import Embedding, Segmenter

REQUEST_BATCH = 128  # samples taken from the queue at a time


@dataclass(frozen=True)
class MaskQuestion:
    """One sample to score.

    source, row: where the true mask and the image are (see :func:`seg_zero.data.source.open_rows`). view: the
    part of the stored image that the policy saw. objects: its answer, in pixels of what it saw, which was
    ``image_size`` = (width, height). with_mask: whether the score contains SAM2's mask.
    """

    source: str
    row: int
    view: View
    image_size: tuple[float, float]
    objects: tuple[PromptObject, ...]
    with_mask: bool = False

    def stored_objects(self) -> list[PromptObject]:
        """The objects in pixels of the stored image."""
        width, height = self.view.size
        sx, sy = width / self.image_size[0], height / self.image_size[1]
        return [self.view.to_image(item.scaled(sx, sy)) for item in self.objects]


@dataclass(frozen=True)
class MaskScore:
    """IoU of SAM2's union mask with the truth, or None and the line that says why there is none.

    counts: pixels of mask and truth, without a mask those of the truth if it could be read. mask: COCO RLE of the
    stored image, if asked for.
    """

    iou: float | None
    problem: str | None = None
    counts: MaskCounts = field(default_factory=lambda: MaskCounts(answered=False))
    mask: dict[str, Any] | None = None


class MaskScorer:
    """A SAM2 with a cache of its latest image embeddings, at most ``cache_images``."""

    def __init__(self, segmenter: Segmenter, cache_images: int) -> None:
        self.segmenter = segmenter
        self._sources: dict[str, RowSource] = {}
        self._embeddings = LatestEmbeddings(segmenter, cache_images, self._read, _in_words)

    @property
    def images_embedded(self) -> int:
        return self._embeddings.computed

    @staticmethod
    def failed(problem: str) -> MaskScore:
        """The result where no actor could be asked."""
        return MaskScore(None, problem)

    def scores(self, questions: Sequence[MaskQuestion]) -> list[MaskScore]:
        """Score samples, in any order and of any rows. Never raises: a failure is reported in its score."""
        results: dict[int, MaskScore] = {}
        groups: dict[tuple[str, int], list[int]] = {}
        for index, question in enumerate(questions):
            groups.setdefault((question.source, question.row), []).append(index)
        for key, known in self._embeddings.of(list(groups)):
            if isinstance(known, str):
                scores = [MaskScore(None, known)] * len(groups[key])
            else:
                scores = self._group(key, *known, [questions[index] for index in groups[key]])
            results.update(zip(groups[key], scores, strict=True))
        return [results[index] for index in range(len(questions))]

    def _read(self, key: tuple[str, int]) -> tuple[Image.Image, np.ndarray]:
        """Image and true mask of a row."""
        row = self._source(key[0])[key[1]]
        image, truth = row.image(), row.truth()
        if truth is None or truth.shape != (image.height, image.width):
            raise ValueError(f"row {row.id!r} has no mask of its image's size")
        return image, truth

    def _source(self, name: str) -> RowSource:
        if name not in self._sources:
            self._sources[name] = open_rows(name)
        return self._sources[name]

    def _group(
        self, key: tuple[str, int], embedding: Embedding, truth: np.ndarray, samples: Sequence[MaskQuestion]
    ) -> list[MaskScore]:
        """Scores of samples that are all about the row ``key``."""
        try:
            return self._decode(embedding, truth, samples)
        except Exception as error:
            if len(samples) == 1:
                problem = f"SAM2 failed on {_in_words(key)}: {error}"
                return [MaskScore(None, problem, count_pixels(None, truth))]
            return [score for one in samples for score in self._group(key, embedding, truth, [one])]  # one by one

    def _decode(self, embedding: Embedding, truth: np.ndarray, samples: Sequence[MaskQuestion]) -> list[MaskScore]:
        objects = [sample.stored_objects() for sample in samples]
        masks = self.segmenter.segment_embedded(embedding, [item for some in objects for item in some]).masks
        scores, first = [], 0
        for sample, some in zip(samples, objects, strict=True):
            union = np.asarray(masks[first : first + len(some)].any(axis=0))
            first += len(some)
            counts = count_pixels(union, truth)
            mask = encode_mask(union) if sample.with_mask else None
            scores.append(MaskScore(iou_of(counts.intersection, counts.union), None, counts, mask))
        return scores


def _in_words(key: tuple[str, int]) -> str:
    return f"{key[0]}, row {key[1]}"


class Asks(Protocol):
    """A question; row: the same for all about one picture, which go to one actor."""

    @property
    def row(self) -> int: ...


Question = TypeVar("Question", bound=Asks)
Score = TypeVar("Score")
Question_contra = TypeVar("Question_contra", bound=Asks, contravariant=True)
Score_co = TypeVar("Score_co", covariant=True)


class Scorer(Protocol[Question_contra, Score_co]):
    """What an actor runs: :class:`MaskScorer`, or the one of dialogues."""

    def __init__(self, segmenter: Segmenter, cache_images: int) -> None: ...

    def scores(self, questions: Sequence[Question_contra]) -> Sequence[Score_co]: ...

    @staticmethod
    def failed(problem: str) -> Score_co: ...


class MaskScorerActor:
    """Runs as a Ray actor. Requests that come while SAM2 works are scored together afterwards."""

    def __init__(
        self,
        scorer: type[Scorer[Any, Any]],
        segmentation_model: str,
        device: str,
        cache_images: int,
        gpus: str | None,
    ) -> None:
        if gpus is not None:  # Ray hides the GPUs from an actor that books none; it must come before CUDA starts
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus
        from seg_zero.segmenter import load_segmenter

        self._scorer = scorer(load_segmenter(segmentation_model, device=device), cache_images)
        self._waiting: list[tuple[Asks, asyncio.Future[Any]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def ready(self) -> bool:
        """Returns once SAM2 is loaded."""
        return True

    async def score(self, question: Asks) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            batch = self._waiting[:REQUEST_BATCH]
            del self._waiting[: len(batch)]
            scores = await asyncio.to_thread(self._scorer.scores, [question for question, _ in batch])
            for (_, future), score in zip(batch, scores, strict=True):
                if not future.done():  # its caller may have gone
                    future.set_result(score)


class MaskScorers(Generic[Question, Score]):
    """The actors of a run, seen from a reward worker; the first worker to ask starts them.

    scorer: what they run; actors of different ones live beside each other.
    """

    def __init__(self, settings: MaskScorerSettings, scorer: type[Scorer[Question, Score]]) -> None:
        import ray

        remote = ray.remote(MaskScorerActor)
        model, device = settings.segmentation_model, settings.device
        gpus = os.environ.get(VISIBLE_GPUS) if device == "cuda" and not settings.num_gpus else None
        self._timeout, self._failed = settings.timeout_seconds, scorer.failed
        self._handles: list[Any] = [
            remote.options(
                name=f"seg_zero_{scorer.__name__}_{index}",
                get_if_exists=True,
                num_cpus=0,  # it must start on a machine whose CPUs verl has booked
                num_gpus=settings.num_gpus,
                max_restarts=-1,
                max_concurrency=4096,  # waiting requests cost nothing
            ).remote(scorer, model, device, settings.cache_images, gpus and _gpu_of(index, gpus))
            for index in range(settings.actors)
        ]
        self._ready: asyncio.Task[Any] | None = None

    async def score(self, question: Question) -> Score:
        """Score one sample. Raises if SAM2 cannot be loaded at all; later failures are in the score."""
        import ray

        if self._ready is None:
            self._ready = asyncio.ensure_future(asyncio.gather(*(_result(h.ready.remote()) for h in self._handles)))
        await self._ready
        handle = self._handles[question.row % len(self._handles)]
        try:
            score: Score = await asyncio.wait_for(_result(handle.score.remote(question)), self._timeout)
        except asyncio.TimeoutError:
            return self._failed(f"no mask within {self._timeout:g} s (reward.mask_scorer.timeout_seconds)")
        except ray.exceptions.RayError as error:
            return self._failed(f"the mask actor failed: {str(error).splitlines()[0]}")
        return score


def _gpu_of(index: int, gpus: str) -> str:
    """The GPU that an actor shares with training: they are dealt out in turn."""
    listed = gpus.split(",")
    return listed[index % len(listed)]


async def _result(reference: Any) -> Any:
    return await reference
