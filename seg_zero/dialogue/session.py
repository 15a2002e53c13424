"""A conversation about one picture: questions, answers, and what earlier ones leave for later ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.dialogue.memory import GIVEN, Instance, Memory, Round
from seg_zero.dialogue.references import Asked, listed, read_question
from seg_zero.dialogue.renderers import ReferenceRenderer
from seg_zero.dialogue.saving import SavedDialogue, dialogue_record, write_dialogue
from seg_zero.errors import InputError
from seg_zero.objects import PromptObject
from seg_zero.policy import Policy, Request
from seg_zero.policy.base import Reply, explained
from seg_zero.prompting import check_question, read_objects
from seg_zero.results.result import SegmentationResult
from seg_zero.segmenter import Embedding, Segmentation, Segmenter

Embed = Callable[[], tuple[Future[tuple[Embedding, float]], bool]]
Answered = tuple[SegmentationResult, np.ndarray | None]
Reference = int | np.ndarray | PromptObject


@dataclass(frozen=True, eq=False)
class Ask:
    """A question with what it can refer to; embed: starts SAM2's embedding of the image, as the pipeline does."""

    image: Image.Image
    asked: Asked
    instances: tuple[Instance, ...]
    embed: Embed
    name: str = ""


@dataclass(frozen=True)
class Answerer:
    """A policy and a SAM2 with a way for earlier masks to re-enter. warning: goes into every result."""

    policy: Policy
    segmenter: Segmenter
    renderer: ReferenceRenderer
    warning: str | None = None

    def answer(self, asks: Sequence[Ask]) -> list[Answered | InputError]:
        """The answer to each question with the h x w logits of its masks (None: the masks are not SAM2's own), or why
        it cannot be asked. The policy answers in batches while SAM2 embeds.
        """
        requests: list[Request] = []
        failures: dict[int, InputError] = {}
        for number, ask in enumerate(asks):
            try:
                check_question(ask.asked.question)
                made = self.renderer.render(ask.image, ask.instances, ask.asked, self.policy.spec)
                requests.append(Request(number, made.image, ask.asked.question, made.context, made.pictures))
            except InputError as error:
                failures[number] = error
        embeddings = {request.key: asks[request.key].embed() for request in requests}
        start = time.perf_counter()
        replies = {reply.key: reply for reply in self.policy.stream(requests)}
        policy_seconds = (time.perf_counter() - start) / max(len(asks), 1)
        failures |= {key: InputError(reply.problem) for key, reply in replies.items() if reply.problem is not None}
        return [
            failures.get(number) or self._segment(ask, replies[number], policy_seconds, *embeddings[number])
            for number, ask in enumerate(asks)
        ]

    def _segment(
        self,
        ask: Ask,
        reply: Reply,
        policy_seconds: float,
        embedding: Future[tuple[Embedding, float]],
        is_new: bool,
    ) -> Answered:
        read, objects = read_objects(reply.texts[0], self.policy.spec, ask.image.size)
        features, embedding_seconds = embedding.result()
        start = time.perf_counter()
        found = segment(self.segmenter, self.renderer, features, objects, ask.instances, ask.asked)
        seconds = {
            "policy": policy_seconds,
            "embedding": embedding_seconds if is_new else 0.0,
            "segmenter": time.perf_counter() - start,
        }
        result = SegmentationResult.of_answer(
            ask.asked.question,
            explained(read, reply.cut_at),
            objects,
            found.masks,
            found.scores,
            seconds,
            image=ask.image,
            name=ask.name,
            warning=self.warning,
        )
        return result, found.low_res


def segment(
    segmenter: Segmenter,
    renderer: ReferenceRenderer,
    embedding: Embedding,
    objects: Sequence[PromptObject],
    instances: Sequence[Instance],
    asked: Asked,
) -> Segmentation:
    """Masks of an answer's objects, in pixels of the image, by the renderer's use of earlier masks.

    Their logits are None where the renderer changed the masks, which are then not SAM2's own.
    """
    earlier = renderer.mask_prompts(objects, instances, asked, segmenter.mask_prompt)
    found = segmenter.segment_embedded(embedding, objects, mask_prompts=earlier, low_res=True)
    masks = renderer.combine(found.masks, instances, asked)
    return found if masks is found.masks else Segmentation(masks, found.scores)


class Dialogue:
    """A conversation about one picture, for one thread at a time; ``ReasoningSegmenter.dialogue`` makes one.

    >>> dialogue = segmenter.dialogue("scene.png")
    >>> dialogue.ask("the person with glasses")
    >>> dialogue.ask("the bag beside instance 1").mask

    An error leaves the dialogue as it was.
    """

    def __init__(
        self, answerer: Answerer, embed: Embed, image: Image.Image, name: str = "", memory: Memory | None = None
    ) -> None:
        self.image, self.name = image, name
        self._answerer, self._start, self._memory = answerer, embed, memory or Memory()
        self._embedding: Future[tuple[Embedding, float]] | None = None

    @property
    def rounds(self) -> tuple[Round, ...]:
        return self._memory.rounds

    def check(
        self, question: str, references: Sequence[int] = (), *, relation: str = "", allow_empty: bool = False
    ) -> Asked:
        """The question as it is read. Raises InputError for what :meth:`ask` would refuse before the policy runs."""
        asked = read_question(question, references, relation)
        check_question(asked.question)
        self._memory.check(asked, allow_empty=allow_empty)
        return asked

    def ask(
        self,
        question: str,
        references: Iterable[Reference] = (),
        *,
        relation: str = "",
        allow_empty: bool = False,
    ) -> SegmentationResult:
        """Answer a question, which becomes the next round.

        references: beside those that the question names ("instance 2", ``[REF:2]``), numbers of earlier rounds, masks
        (boolean H x W) or clicked points and boxes (PromptObject, in pixels of the image); relation: ``hierarchical``
        if the target is a part of them; allow_empty: a round that found nothing may be referred to, and the prompt
        says so. Raises InputError for a later or missing round, one without an object, one round too many, an unusable
        question or region.
        """
        every = listed(references)
        numbers: list[Any] = [item for item in every if isinstance(item, Integral)]
        asked = self.check(question, numbers, relation=relation, allow_empty=allow_empty)
        given = [self._region(item) for item in every if not isinstance(item, Integral)]
        instances = self._memory.instances
        if given:
            instances += (Instance(GIVEN, "", np.stack(given)),)
        ask = Ask(self.image, asked, instances, self._embed, self.name)
        (answered,) = self._answerer.answer([ask])
        if isinstance(answered, InputError):
            raise answered
        result, low_res = answered
        self._memory = self._memory.added(Round(asked, result, np.stack(given) if given else None, low_res))
        return result

    def branch(self) -> Dialogue:
        """A dialogue that goes on from the same rounds, with the same embedding of the image."""
        return copy(self)  # a memory is never changed, only replaced

    def undo(self) -> Round:
        """Take the last round back and return it. Raises InputError if there is none."""
        memory = self._memory
        self._memory = memory.undone()
        return memory.rounds[-1]

    def clear(self) -> None:
        """Forget all rounds; the picture stays embedded."""
        self._memory = Memory((), self._memory.max_rounds)

    def save(self, path: str | Path) -> None:
        """Write the dialogue as one JSON file, atomically: masks as COCO RLE, and the name and a hash of the image."""
        write_dialogue(Path(path), self.record())

    def record(self) -> dict[str, Any]:
        """What :meth:`save` writes, as JSON values."""
        return dialogue_record(self.name, self.image, self.rounds)

    def restore(self, saved: SavedDialogue) -> None:
        """Take the rounds of a saved dialogue. Raises InputError if it was held about another image."""
        self._memory = Memory(saved.for_image(self.image), self._memory.max_rounds)

    def _embed(self) -> tuple[Future[tuple[Embedding, float]], bool]:
        """The one embedding of the image, kept as long as the dialogue, and whether it is new."""
        if self._embedding is not None and not (self._embedding.done() and self._embedding.exception()):
            return self._embedding, False
        self._embedding, is_new = self._start()
        return self._embedding, is_new

    def _region(self, item: np.ndarray | PromptObject) -> np.ndarray:
        """A region as a boolean H x W mask; a point or box is segmented by SAM2."""
        if isinstance(item, PromptObject):
            features, _ = self._embed()[0].result()
            (mask,) = self._answerer.segmenter.segment_embedded(features, [item]).masks
            if not mask.any():
                raise InputError(f"nothing is segmented at {item.box or item.points}; give a point or box in the image")
            return np.asarray(mask)
        shape = (self.image.height, self.image.width)
        if not isinstance(item, np.ndarray) or item.dtype != bool or item.shape != shape:
            what = f"{item.dtype} of shape {item.shape}" if isinstance(item, np.ndarray) else type(item).__name__
            raise InputError(f"a region is {what}; give a boolean array {shape}, a round, or a PromptObject")
        if not item.any():
            raise InputError("a region that was given has no pixel; mark one")
        return item
