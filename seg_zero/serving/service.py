"""Requests of many users to one policy and one SAM2.

Three kinds of threads: those of the server submit jobs; one passes waiting jobs to the policy and collects its
replies; one runs SAM2, which embeds a job's image while the policy writes, and segments when the reply is complete.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from PIL import Image

from seg_zero.answer import Answer
from seg_zero.objects import PromptObject
from seg_zero.policy import Policy, Reply, Request
from seg_zero.policy.base import UnansweredReply, explained
from seg_zero.prompting import read_objects
from seg_zero.segmenter import Embedding, Segmentation, Segmenter

log = logging.getLogger(__name__)

T = TypeVar("T")

SHUTTING_DOWN = "the server is shutting down; ask another one"
FAILURES = 3  # in a row, after which the policy is taken for broken


class Refused(Exception):
    """A request that gets no answer: an HTTP status and one line that says why.

    retry: after how many seconds to ask again, where the status says that one may.
    """

    def __init__(self, status: int, line: str, retry: int = 1) -> None:
        super().__init__(line)
        self.status, self.line, self.retry = status, line, retry


@dataclass(frozen=True)
class Outcome:
    """The answer to one job.

    answer: the policy's text, read; objects: in pixels of the image, of which ``size`` is (width, height); masks: bool
    N x H x W, one per object; scores: float32 N; seconds: spent waiting and in the stages, of which policy and
    embedding overlap; low_res: logits of the masks, if a job's own way of segmenting kept them.
    """

    answer: Answer
    objects: Sequence[PromptObject]
    masks: np.ndarray = field(repr=False)
    scores: np.ndarray
    size: tuple[int, int]
    seconds: dict[str, float]
    low_res: np.ndarray | None = field(default=None, repr=False)

    @property
    def mask(self) -> np.ndarray:
        """All masks together, bool H x W."""
        return np.asarray(self.masks.any(axis=0))


class Observer(Protocol):
    """Receives the sizes of batches."""

    def batch(self, size: int) -> None: ...


@dataclass(frozen=True, eq=False)
class Setting:
    """What a question is asked with, beside its image: what was said and shown earlier.

    seen: the image that the policy sees; context, pictures: as in a policy's Request; embed: of the image, in SAM2's
    thread; segment: from that and the answer's objects in pixels of the image, in SAM2's thread.
    """

    seen: Image.Image
    context: str
    pictures: tuple[Image.Image, ...]
    embed: Callable[[], Embedding]
    segment: Callable[[Embedding, Sequence[PromptObject]], Segmentation]


@dataclass(eq=False)
class _Job(Generic[T]):
    image: Image.Image
    question: str
    finish: Callable[[Outcome], T]
    setting: Setting | None = None
    result: Future[T] = field(default_factory=Future)
    seconds: dict[str, float] = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)
    embedding: Future[Embedding] | None = None

    def take(self) -> float:
        """Seconds since the last call."""
        now = time.perf_counter()
        spent, self.start = now - self.start, now
        return spent

    def request(self, key: int) -> Request:
        if self.setting is None:
            return Request(key, self.image, self.question)
        return Request(key, self.setting.seen, self.question, self.setting.context, self.setting.pictures)

    def refuse(self, status: int, line: str) -> None:
        with suppress(InvalidStateError):  # given up by its user
            self.result.set_exception(Refused(status, line))


async def in_time(job: Future[T], timeout: float) -> T:
    """What a job comes to. Raises Refused: what it fails with, or 504 after ``timeout`` seconds, which abandons it."""
    try:
        return await asyncio.wait_for(asyncio.wrap_future(job), timeout)
    except asyncio.TimeoutError:
        raise Refused(504, f"no answer within {timeout:g} seconds; the server is busy, try again later") from None


def check_room(closing: bool, count: int, most: int, does: str, what: str) -> None:
    """Raises Refused for one more job in a service that shuts down, or that holds ``count`` of at most ``most``."""
    if closing:
        raise Refused(503, SHUTTING_DOWN)
    if count >= most:
        raise Refused(429, f"the server already {does} {most} {what}; try again in a moment")


class Service:
    """One policy and one SAM2 for any number of users.

    At most ``max_open`` jobs wait or run; further ones are refused, so that memory and waiting are bounded.
    """

    def __init__(self, policy: Policy, segmenter: Segmenter, max_open: int, observer: Observer) -> None:
        self.policy, self.segmenter, self.max_open, self.observer = policy, segmenter, max_open, observer
        self.closing = False
        self._failures = 0  # of the policy, in a row
        self._joined = False  # jobs were taken since the last reply
        self._changed = threading.Condition()
        self._waiting = deque[_Job[Any]]()
        self._open = 0
        self._at_policy: dict[int, _Job[Any]] = {}
        self._sam = ThreadPoolExecutor(1, "sam2")  # one: sam2's predictor holds one image at a time
        self._thread = threading.Thread(target=self._work, name="policy", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that the policy has not taken yet."""
        return len(self._waiting)

    @property
    def failing(self) -> bool:
        """Whether the policy in this process seems to be broken."""
        return self._failures >= FAILURES

    @property
    def open(self) -> int:
        """Jobs that wait or are worked on."""
        return self._open

    def admit(self) -> None:
        """Raises Refused if no further job would be taken now."""
        check_room(self.closing, self._open, self.max_open, "works on", "requests")

    def submit(
        self,
        image: Image.Image,
        question: str,
        finish: Callable[[Outcome], T],
        setting: Setting | None = None,
    ) -> Future[T]:
        """Queue a question about an RGB image; the future holds what ``finish`` makes of the outcome.

        Cancelling the future abandons the job. The future fails with Refused if there is no outcome: 422 for a question
        that the policy cannot be asked, 502 if a remote policy failed, 500 if one in this process did. Raises Refused
        as :meth:`admit` does.
        """
        job = _Job(image, question, finish, setting)
        with self._changed:
            self.admit()
            self._open += 1
            self._waiting.append(job)
            self._changed.notify_all()
        # Not a function that holds the job: the two would hold each other, with image and embedding, for long.
        job.result.add_done_callback(self._left)
        return job.result

    def _left(self, result: Future[Any]) -> None:
        """A job was answered, refused or given up."""
        with self._changed:
            self._open -= 1
            for job in self._waiting:
                if job.result is result:
                    self._waiting.remove(job)
                    break
            self._changed.notify_all()

    def close(self, timeout: float) -> bool:
        """Take no more jobs, finish the open ones; returns whether all were finished in time (seconds)."""
        with self._changed:
            self.closing = True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self._open, timeout)
        if done:
            self._thread.join(timeout)
            self._sam.shutdown(wait=True)
        return done

    def _take(self, number: int) -> Request | None:
        """The next job as a request; None if none waits. Lets SAM2 begin with its image."""
        with self._changed:
            if not self._waiting:
                return None
            job = self._waiting.popleft()
            self._at_policy[number], self._joined = job, True
        job.seconds["waiting"] = job.take()
        job.embedding = self._sam.submit(self._embed, job)
        return job.request(number)

    def _requests(self, first: int) -> Iterator[Request | None]:
        """What the policy is fed: jobs as they come, until the server closes and none is left."""
        number = first
        while True:
            taken = self._take(number)
            if taken is not None:
                number += 1
                yield taken
            elif self._at_policy:
                yield None
            else:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or (self.closing and not self._open))
                    if not self._waiting:
                        return

    def _work(self) -> None:
        """The policy's thread; it ends when the server closes."""
        first = 0
        while not (self.closing and not self._open):
            try:
                for reply in self.policy.stream(self._requests(first)):
                    if self._joined:
                        self.observer.batch(len(self._at_policy))
                    self._joined, self._failures = False, 0
                    self._replied(self._at_policy.pop(reply.key), reply)
            except Exception:
                log.exception("the policy failed with %d requests in flight", len(self._at_policy))
                self._one_by_one()
            first += 1 << 32  # keys of a stream that failed never come again

    def _one_by_one(self) -> None:
        """After a failure: ask for each job alone, so that one cannot spoil the others."""
        while self._at_policy:
            key, job = self._at_policy.popitem()
            try:
                (reply,) = self.policy.stream([job.request(key)])
                self._failures = 0
                self._replied(job, reply)
            except Exception:
                log.exception("the policy failed")
                self._failures += 1
                job.refuse(500, "the policy failed on this request; the server's log says why")

    def _embed(self, job: _Job[Any]) -> Embedding:
        start = time.perf_counter()
        embedding = self.segmenter.embed([job.image])[0] if job.setting is None else job.setting.embed()
        job.seconds["embedding"] = time.perf_counter() - start
        return embedding

    def _replied(self, job: _Job[Any], reply: Reply) -> None:
        job.seconds["policy"] = job.take()
        if reply.problem is not None:
            job.refuse(502 if isinstance(reply, UnansweredReply) else 422, reply.problem)
        elif not job.result.done():
            self._sam.submit(self._segment, job, reply.texts[0], reply.cut_at)

    def _segment(self, job: _Job[Any], text: str, cut_at: int | None) -> None:
        """Masks of a reply; in SAM2's thread, after the embedding. One job at a time: as without a server."""
        if not job.result.set_running_or_notify_cancel():
            return
        try:
            assert job.embedding is not None
            answer, objects = read_objects(text, self.policy.spec, job.image.size)
            embedding = job.embedding.result()
            start = time.perf_counter()
            if job.setting is None:
                found: Segmentation = self.segmenter.segment_all([embedding], [objects])[0]
            else:
                found = job.setting.segment(embedding, objects)
            seconds = {**job.seconds, "segmenter": time.perf_counter() - start}
            read = explained(answer, cut_at)
            outcome = Outcome(read, objects, found.masks, found.scores, job.image.size, seconds, found.low_res)
            job.result.set_result(job.finish(outcome))
        except Exception:
            log.exception("segmenting failed")
            job.result.set_exception(Refused(500, "segmenting failed on this request; the server's log says why"))
