"""The models, shared by all users of the page: one question at a time, with corrections in parallel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

from PIL import Image

from seg_zero.dialogue.session import Dialogue, Reference
from seg_zero.objects import PromptObject
from seg_zero.pipeline import ReasoningSegmenter
from seg_zero.results.result import SegmentationResult
from seg_zero.segmenter import Segmentation

PATIENCE = 0.5  # seconds between signs of life, at which a reader that left is noticed


@dataclass(frozen=True)
class Waiting:
    """No news yet; holds the number of questions ahead in the queue."""

    ahead: int


@dataclass(eq=False)
class _Job:
    events: Callable[[], Iterator[str | SegmentationResult]]
    stop: threading.Event
    text: str = ""
    ended: bool = False
    result: SegmentationResult | None = None
    failure: Exception | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)


class Asker:
    """Answers questions in order of arrival, in its own thread.

    The thread does not wait for a reader, so one that is slow or leaves delays nobody.
    """

    def __init__(self, segmenter: ReasoningSegmenter) -> None:
        self._segmenter = segmenter
        self._worker = ThreadPoolExecutor(1, "questions")
        self._lock = threading.Lock()
        self._correcting = threading.Lock()
        self._jobs: list[_Job] = []

    def ask(
        self, image: Image.Image, question: str, stop: threading.Event
    ) -> Iterator[Waiting | str | SegmentationResult]:
        """The policy's text so far whenever it grows, then the result; a Waiting if nothing happens.

        Setting ``stop``, or closing the iterator, ends the policy's writing; there is no result then. Raises
        what :meth:`ReasoningSegmenter.stream` raises.
        """
        yield from self._run(lambda: self._segmenter.stream(image, question), stop)

    def dialogue(self, image: Image.Image, name: str, max_rounds: int) -> Dialogue:
        """As :meth:`ReasoningSegmenter.dialogue`, about a picture of this name."""
        made = self._segmenter.dialogue(image, max_rounds=max_rounds)
        made.name = name
        return made

    def ask_round(
        self, dialogue: Dialogue, question: str, references: Sequence[Reference], stop: threading.Event
    ) -> Iterator[Waiting | SegmentationResult]:
        """The next round of a dialogue, in line with other questions; a Waiting if nothing happens.

        Setting ``stop``, or closing the iterator, gives no result. The models may still work on this dialogue then;
        ask a branch of it, and go on from that once there is a result. Raises what :meth:`Dialogue.ask` raises.
        """

        def events() -> Iterator[SegmentationResult]:
            yield dialogue.ask(question, references)

        for event in self._run(events, stop):
            assert not isinstance(event, str)
            yield event

    def correct(self, result: SegmentationResult, stop: threading.Event) -> Iterator[Waiting | SegmentationResult]:
        """The answer after one further turn, in line with other questions; a Waiting if nothing happens.

        Setting ``stop``, or closing the iterator, gives no result. Raises as :meth:`ReasoningSegmenter.correct`.
        """

        def events() -> Iterator[SegmentationResult]:
            yield self._segmenter.correct(result)

        for event in self._run(events, stop):
            assert not isinstance(event, str)
            yield event

    def _run(
        self, events: Callable[[], Iterator[str | SegmentationResult]], stop: threading.Event
    ) -> Iterator[Waiting | str | SegmentationResult]:
        job = _Job(events, stop)
        with self._lock:
            self._jobs.append(job)
        self._worker.submit(self._work, job)
        seen = ""
        try:
            while not stop.is_set():
                with job.changed:
                    job.changed.wait_for(lambda: job.ended or job.text != seen, PATIENCE)  # noqa: B023
                    text, ended = job.text, job.ended
                if text != seen:
                    seen = text
                    yield text
                elif not ended:
                    yield Waiting(self._ahead(job))
                if ended:
                    if job.failure is not None:
                        raise job.failure
                    if job.result is not None:
                        yield job.result
                    return
        finally:
            stop.set()

    def _ahead(self, job: _Job) -> int:
        with self._lock:
            return self._jobs.index(job) if job in self._jobs else 0

    def _work(self, job: _Job) -> None:
        try:
            if not job.stop.is_set():
                self._answer(job)
        except Exception as error:  # raised again where the text is read
            job.failure = error
        finally:
            with self._lock:
                self._jobs.remove(job)
            with job.changed:
                job.ended = True
                job.changed.notify_all()

    def _answer(self, job: _Job) -> None:
        events = cast("Generator[str | SegmentationResult, None, None]", job.events())
        try:
            for event in events:
                if job.stop.is_set():
                    return
                with job.changed:
                    if isinstance(event, str):
                        job.text += event
                    else:
                        job.result = event
                    job.changed.notify_all()
        finally:
            events.close()  # the policy stops now, not when the generator happens to be collected

    def segment(self, image: Image.Image, objects: Sequence[PromptObject]) -> tuple[Segmentation, dict[str, float]]:
        """As :meth:`ReasoningSegmenter.segment`, one call at a time; it does not wait for questions."""
        with self._correcting:
            return self._segmenter.segment(image, objects)
