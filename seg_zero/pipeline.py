"""The public face: a question about an image in, a reasoned mask out."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from cachetools import LRUCache
from PIL import Image

from seg_zero.devices import choose_device, choose_dtype, wait_for
from seg_zero.dialogue.correction import Corrector
from seg_zero.dialogue.memory import MAX_ROUNDS, Memory
from seg_zero.dialogue.renderers import renderer_for
from seg_zero.dialogue.saving import read_dialogue
from seg_zero.dialogue.session import Answerer, Dialogue
from seg_zero.dialogue.turns import check_corrections
from seg_zero.errors import InputError, print_warning
from seg_zero.images import ImageLike, load_image, pixel_hash
from seg_zero.objects import PromptObject
from seg_zero.policy import MAX_NEW_TOKENS, Policy, Request, Sampling
from seg_zero.policy.base import explained
from seg_zero.policy.loading import load_policy
from seg_zero.policy.model_files import default_spec, models_warning, resolve_model
from seg_zero.prompting import PromptTemplate, check_question, read_objects
from seg_zero.results.result import SegmentationResult, SegmentedObject
from seg_zero.segmenter import Embedding, Segmentation, Segmenter, load_segmenter
from seg_zero.segmenter.video import open_tracker
from seg_zero.video.clips import Clip, open_clip
from seg_zero.video.tracking import MATCH_IOU, KeyFrames, VideoFrame, check_min_iou, segment_clip
from seg_zero.votes import fuse

if TYPE_CHECKING:
    import torch


VOTE_TEMPERATURE = 0.7
EMBEDDINGS = 4  # kept between calls; one of a large SAM2 takes 16 MB


@dataclass(frozen=True)
class _Ask:
    """A question about an image that was read."""

    image: Image.Image
    question: str
    name: str = ""

    @cached_property
    def image_key(self) -> bytes:
        return pixel_hash(self.image)

    @cached_property
    def key(self) -> int:
        """Of image and question: equal ones get equal votes, whatever else is asked."""
        both = hashlib.blake2b(self.image_key + self.question.encode("utf-8", "surrogatepass"), digest_size=8)
        return int.from_bytes(both.digest(), "big")

    @classmethod
    def read(cls, image: ImageLike, question: str) -> _Ask:
        """Raises InputError for an image or a question that cannot be used."""
        if not isinstance(question, str):
            raise InputError(f"the question is a {type(question).__name__}; give text")
        check_question(question)
        return cls(load_image(image), question, image_name(image))


def image_name(image: ImageLike) -> str:
    """The path of an image as text that can be printed; "" if it was not given as a path."""
    return os.fsencode(image).decode(errors="replace") if isinstance(image, str | Path) else ""


class _Embeddings:
    """SAM2's embeddings of the images seen last, made in a thread beside the policy's."""

    def __init__(self, segmenter: Segmenter, room: int) -> None:
        self._segmenter = segmenter
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, "sam2")  # one: sam2's predictor holds one image at a time
        self._kept: LRUCache[bytes, Future[tuple[Embedding, float]]] = LRUCache(room)

    def start(self, ask: _Ask) -> tuple[Future[tuple[Embedding, float]], bool]:
        """The embedding with the seconds it took, once it is there, and whether it is a new one."""
        key = ask.image_key
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and not (kept.done() and kept.exception()):
                return kept, False
            self._kept[key] = new = self._worker.submit(self._embed, ask.image)
            return new, True

    def _embed(self, image: Image.Image) -> tuple[Embedding, float]:
        start = time.perf_counter()
        (embedding,) = self._segmenter.embed([image])
        wait_for(self._segmenter.device)
        return embedding, time.perf_counter() - start


class ReasoningSegmenter:
    """A policy that reasons and a SAM2 that segments, for one thread at a time (:meth:`segment`: for any).

    >>> segmenter = ReasoningSegmenter.from_pretrained()
    >>> result = segmenter("scene.png", "the largest circle")
    >>> result.thinking, result.objects, result.mask

    Images may be anything that :func:`seg_zero.images.load_image` reads. SAM2 embeds an image while the
    policy writes, and not again for further questions about one of the last ``embeddings`` images.
    ``warning`` is None, or says that the policy is the embedded one, or why a published one will answer worse than it
    could; it is in every result.
    """

    def __init__(
        self, policy: Policy, segmenter: Segmenter, *, embeddings: int = EMBEDDINGS, warning: str | None = None
    ) -> None:
        self.policy, self.segmenter, self.warning = policy, segmenter, warning
        self._embeddings = _Embeddings(segmenter, embeddings)

    @classmethod
    def from_pretrained(
        cls,
        policy: str | Path | None = None,
        segmenter: str | Path | None = None,
        *,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        template: str | None = None,
        prompt_template: PromptTemplate | Path | str | None = None,
        image_size: int | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> ReasoningSegmenter:
        """Load both models; None means the embedded tiny ones.

        policy: folder or hub id of a Qwen2-VL, Qwen2.5-VL, Qwen3-VL or GLM-4.1V (e.g. Ricky06662/VisionReasoner-7B);
        segmenter: checkpoint file, folder or hub id, see :func:`seg_zero.segmenter.files.find`; device: e.g.
        "cuda:1" (None: CUDA, else MPS, else CPU); dtype: of the policy, "float32", "bfloat16" or "float16"
        (None: bfloat16 on CUDA, float32 elsewhere; the segmenter keeps to that rule); template, prompt_template (also
        a file that ``seg-zero prompt import`` wrote), image_size: replace the prompt settings that belong to the
        policy. Models that answer worse than they could (the embedded ones about photos, a published one without its
        prompt) are named in one line on standard error. Raises InputError if something is missing or does not fit.
        """
        device = choose_device(device)
        kind = choose_dtype(dtype, device)
        if prompt_template is not None and not isinstance(prompt_template, PromptTemplate):
            prompt_template = PromptTemplate.read(prompt_template)
        model = resolve_model(policy)
        spec = default_spec(model, template, image_size, prompt_template)
        warning = models_warning(model, spec, segmenter)
        loaded = cls(
            load_policy(policy, spec=spec, device=device, dtype=kind, max_new_tokens=max_new_tokens),
            load_segmenter(segmenter, device=device),
            warning=warning,
        )
        print_warning(warning)
        return loaded

    def __call__(
        self,
        image: ImageLike,
        question: str,
        *,
        votes: int = 1,
        temperature: float | None = None,
        seed: int = 0,
        refine: int = 0,
    ) -> SegmentationResult:
        """Answer one question; the options are those of :meth:`batch`."""
        return self.batch([image], [question], votes=votes, temperature=temperature, seed=seed, refine=refine)[0]

    def batch(
        self,
        images: Sequence[ImageLike],
        questions: Sequence[str],
        *,
        votes: int = 1,
        temperature: float | None = None,
        seed: int = 0,
        refine: int = 0,
    ) -> list[SegmentationResult]:
        """Answer a question about each image; the policy runs in batches, and equal images are embedded once.

        votes: answers per question, whose masks are fused by majority; temperature: of the sampling (None: 0.7
        with several votes, otherwise greedy); seed: of the sampling; refine: further turns, in each of which the policy
        sees its answer drawn on the picture and may correct it (``turns`` of the result). Raises InputError, before any
        work, for an unusable image, question or option, and for a question longer than the policy's context.
        """
        check_corrections(refine, "refine=")
        if refine and votes != 1:
            raise InputError(f"refine={refine} corrects one answer, and votes={votes} are several; give one of the two")
        if len(images) != len(questions):
            raise InputError(f"there are {len(images)} images and {len(questions)} questions; give one for each")
        sampling = sampling_of(votes, temperature, seed)
        asks = [_Ask.read(image, question) for image, question in zip(images, questions, strict=True)]
        # Questions about one image follow each other, so that its embedding need not be kept for long.
        position = {ask.image_key: number for number, ask in reversed(list(enumerate(asks)))}
        open_asks = {ask.key: ask for ask in sorted(asks, key=lambda ask: position[ask.image_key])}
        started: dict[int, tuple[Future[tuple[Embedding, float]], bool]] = {}

        def requests() -> Iterator[Request]:
            for key, ask in open_asks.items():
                started[key] = self._embeddings.start(ask)
                yield Request(key, ask.image, ask.question)

        results: dict[int, SegmentationResult] = {}
        policy_seconds, start = 0.0, time.perf_counter()
        for reply in self.policy.stream(requests(), sampling):
            policy_seconds += time.perf_counter() - start
            if reply.problem is not None:
                raise InputError(reply.problem)
            results[reply.key] = self._result(open_asks[reply.key], reply.texts, reply.cut_at, *started.pop(reply.key))
            start = time.perf_counter()
        for result in results.values():
            result.seconds["policy"] = policy_seconds / len(results)
        if refine:
            corrector = Corrector(self.policy, self.segmenter, self.warning)
            embeds = [partial(self._embeddings.start, open_asks[key]) for key in results]
            results = dict(zip(results, corrector.correct(list(results.values()), embeds, refine), strict=True))
        return [results[ask.key] for ask in asks]

    def correct(self, result: SegmentationResult, turns: int = 1) -> SegmentationResult:
        """An answer after further turns, as with ``refine`` of :meth:`batch`; its image is what was asked about.

        Raises InputError for a number of turns that cannot be made, and for a question that is too long for the policy.
        """
        check_corrections(turns, "turns=")
        corrector = Corrector(self.policy, self.segmenter, self.warning)
        embed = partial(self._embeddings.start, _Ask(result.image, result.question, result.name))
        return corrector.correct([result], [embed], turns)[0]

    def stream(self, image: ImageLike, question: str) -> Iterator[str | SegmentationResult]:
        """Pieces of the policy's text as they are written, then the result of a plain call.

        If the caller stops iterating, the policy stops. Raises what a plain call raises; for an unusable image or
        question, when this is called.
        """
        return self._stream(_Ask.read(image, question))

    def segment_video(
        self,
        video: str | Path | Clip,
        question: str,
        *,
        key_frames: Sequence[int] = (),
        every: float | None = None,
        fps: float | None = None,
        min_iou: float = MATCH_IOU,
    ) -> Iterator[VideoFrame]:
        """The objects that a question names, in every frame of a clip, in order; frames are read as they are needed.

        The policy is asked about key frames; SAM2's video predictor carries its masks to the others.

        video: a video file, a folder of pictures in the order of their names, or a clip that
        :func:`seg_zero.video.clips.open_clip` opened; key_frames: numbers of frames, from 0 (none: frame 0);
        every: instead, ask every so many seconds; fps: of a folder, frames per second (None: 24); min_iou: an object of
        a later answer goes on as the running object that it overlaps at least so much. Raises InputError, before any
        work, for an unusable clip, question, option or segmenter.
        """
        check_question(question)
        check_min_iou(min_iou)
        tracker = open_tracker(self.segmenter)
        clip = open_clip(video, fps) if isinstance(video, str | Path) else video
        keys = KeyFrames(key_frames, every, len(clip))
        return segment_clip(clip, lambda image: self(image, question), tracker, keys, min_iou)

    def dialogue(
        self,
        image: ImageLike,
        *,
        references: str = "text",
        carry: str = "all",
        max_rounds: int = MAX_ROUNDS,
    ) -> Dialogue:
        """A conversation about one image, which SAM2 embeds once: ``ask``, ``undo``, ``rounds``, ``save``.

        references: how earlier masks re-enter, one of :data:`seg_zero.dialogue.renderers.WAYS`; carry: ``all`` tells
        the policy of every earlier round, ``references`` of those that a question refers to; max_rounds: the most there
        can be. Raises InputError for an unusable image or option.
        """
        memory = Memory((), max_rounds)
        ask = _Ask(load_image(image), "", image_name(image))
        answerer = Answerer(self.policy, self.segmenter, renderer_for(references, carry), warning=self.warning)
        return Dialogue(answerer, lambda: self._embeddings.start(ask), ask.image, ask.name, memory)

    def load_dialogue(
        self,
        file: str | Path,
        image: ImageLike | None = None,
        *,
        references: str = "text",
        carry: str = "all",
        max_rounds: int = MAX_ROUNDS,
    ) -> Dialogue:
        """Continue a dialogue that :meth:`Dialogue.save` wrote; the options are those of :meth:`dialogue`.

        image: None if the file names it. Raises InputError for a file that holds none, and for another image.
        """
        saved = read_dialogue(Path(file), max_rounds)
        given = saved.image_or(image, "give the image")
        made = self.dialogue(given, references=references, carry=carry, max_rounds=max_rounds)
        made.restore(saved)
        return made

    def segment(self, image: ImageLike, objects: Sequence[PromptObject]) -> tuple[Segmentation, dict[str, float]]:
        """Masks of objects given by hand, in pixels of the image; the policy is not asked.

        Returns them with the seconds of embedding (0 if the image was known) and segmenter. Other threads may call
        this while a question is answered. Raises InputError for an unusable image.
        """
        embedding, is_new = self._embeddings.start(_Ask(load_image(image), ""))
        features, embedding_seconds = embedding.result()
        start = time.perf_counter()
        found = self.segmenter.segment_embedded(features, objects)
        seconds = time.perf_counter() - start
        return found, {"embedding": embedding_seconds if is_new else 0.0, "segmenter": seconds}

    def _stream(self, ask: _Ask) -> Iterator[str | SegmentationResult]:
        embedding = self._embeddings.start(ask)
        start, pieces = time.perf_counter(), list[str]()
        cut_at = yield from _noted(self.policy.stream_text(ask.image, ask.question), pieces)
        policy_seconds = time.perf_counter() - start
        result = self._result(ask, ("".join(pieces),), cut_at, *embedding)
        result.seconds["policy"] = policy_seconds
        yield result

    def _result(
        self,
        ask: _Ask,
        texts: tuple[str, ...],
        cut_at: int | None,
        embedding: Future[tuple[Embedding, float]],
        is_new: bool,
    ) -> SegmentationResult:
        """Turn a policy's texts into masks; never raises on the texts."""
        read = [read_objects(text, self.policy.spec, ask.image.size) for text in texts]
        prompts = [objects for _, objects in read]
        features, embedding_seconds = embedding.result()
        start = time.perf_counter()
        found = self.segmenter.segment_embedded(features, [item for some in prompts for item in some])
        ends = np.cumsum([len(some) for some in prompts])
        parts = [slice(end - len(some), end) for some, end in zip(prompts, ends, strict=True)]
        mask, chosen = fuse([np.asarray(found.masks[part].any(axis=0)) for part in parts])
        masks, scores = found.masks[parts[chosen]], found.scores[parts[chosen]]
        seconds = {
            "policy": 0.0,  # known to the caller
            "embedding": embedding_seconds if is_new else 0.0,
            "segmenter": time.perf_counter() - start,
        }
        objects = SegmentedObject.of(prompts[chosen], masks, scores)
        answer = explained(read[chosen][0], cut_at)
        return SegmentationResult(
            *(ask.question, answer.thinking, objects, masks, mask, answer.text, answer.problem, texts, seconds),
            image=ask.image,
            name=ask.name,
            warning=self.warning,
        )


def _noted(stream: Generator[str, None, int | None], pieces: list[str]) -> Generator[str, None, int | None]:
    """The pieces of a stream, which are added to ``pieces`` too; returns what the stream returns."""
    while True:
        try:
            piece = next(stream)
        except StopIteration as end:
            return cast("int | None", end.value)
        pieces.append(piece)
        yield piece


def sampling_of(votes: int = 1, temperature: float | None = None, seed: int = 0) -> Sampling:
    """The options of :meth:`ReasoningSegmenter.batch`, checked. Raises InputError for invalid ones."""
    if not isinstance(votes, int) or votes < 1:
        raise InputError(f"votes={votes!r} is not a whole number from 1 up")
    if temperature is None:
        temperature = VOTE_TEMPERATURE if votes > 1 else 0.0
    if not 0 <= temperature <= 2 or (votes > 1 and not temperature):
        raise InputError(f"temperature={temperature} is not above 0 and at most 2, without which all votes are equal")
    return Sampling(votes, temperature, seed)
