"""Rows to predictions: the policy writes in one thread while SAM2 embeds and segments in another.

Each image is embedded once as long as its rows are near each other, also when the policy is still busy with them.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from seg_zero.data.rows import Row
from seg_zero.errors import InputError
from seg_zero.evaluation.predictions import Prediction, failed, judge, read_objects
from seg_zero.policy import GREEDY, Policy, Reply, Request, Sampling
from seg_zero.segmenter import Embedding, Segmenter

EMBEDDING_BATCH = 8
EMBEDDINGS = 48  # kept at a time; one of a large SAM2 takes 16 MB


@dataclass
class _Asked:
    """A row on its way through the policy."""

    row: Row
    truth: np.ndarray
    image_key: bytes
    start: float
    embedding_seconds: float = 0.0


class _Stopped(Exception):
    """The consumer wants no more rows."""


class _Feeder:
    """Reads rows for the policy in the policy's thread and passes on everything that happens.

    Events are (number, _Asked) for a row that was handed over, (number, Prediction) for one that could not be,
    Reply, an exception that ended the policy, and None at its end.
    """

    def __init__(self, policy: Policy, rows: Sequence[Row], numbers: Sequence[int], sampling: Sampling) -> None:
        self._policy, self._rows, self._numbers, self._sampling = policy, rows, numbers, sampling
        self.events: queue.Queue[tuple[int, _Asked | Prediction] | Reply | BaseException | None] = queue.Queue()
        # The policy must be able to fill its batch while earlier rows wait to be segmented.
        self._room = threading.Semaphore(2 * policy.in_flight)
        self._stopped = False

    def done_with_a_row(self) -> None:
        self._room.release()

    def stop(self) -> None:
        self._stopped = True
        self._room.release()

    def run(self) -> None:
        try:
            for reply in self._policy.stream(self._requests(), self._sampling):
                self.events.put(reply)
            self.events.put(None)
        except _Stopped:
            pass
        except BaseException as error:  # it is raised again where the predictions are read
            self.events.put(error)

    def _requests(self) -> Iterator[Request]:
        for number in self._numbers:
            self._room.acquire()
            if self._stopped:
                raise _Stopped
            start = time.perf_counter()
            row, truth = None, None
            try:
                row = self._rows[number]
                truth = row.truth()
                image = row.image()
                if truth is not None and truth.shape != (image.height, image.width):
                    raise InputError(f"row {row.id!r}: the mask is not of the image's size")
                row.objects()
            except (InputError, ValueError) as error:
                seconds = {"policy": 0.0, "segmenter": 0.0}
                self.events.put((number, failed(number, row, truth, f"row cannot be read: {error}", seconds)))
                continue
            if truth is None:
                raise InputError(
                    f"row {number} ({row.id!r}) has no mask; evaluation needs the column 'mask', see docs/data.md"
                )
            image_key = hashlib.blake2b(row.image_bytes, digest_size=16).digest()
            self.events.put((number, _Asked(row, truth, image_key, start)))
            yield Request(number, image, row.problem)


class _Embeddings:
    """The embeddings of the images seen last."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._kept: OrderedDict[bytes, Embedding | Exception] = OrderedDict()
        self.images_embedded = 0

    def __contains__(self, asked: _Asked) -> bool:
        return asked.image_key in self._kept

    def add(self, some: Sequence[_Asked]) -> None:
        """Embed the images that are not kept, in one batch; what fails is raised by :meth:`get`."""
        new = {asked.image_key: asked for asked in some if asked not in self}
        if not new:
            return
        start = time.perf_counter()
        images = [asked.row.image() for asked in new.values()]
        found: list[Embedding | Exception] = []
        try:
            found += self._segmenter.embed(images)
        except Exception:  # one image must not cost the others their masks
            for image in images:
                try:
                    found += self._segmenter.embed([image])
                except Exception as error:
                    found.append(error)
        self.images_embedded += len(images)
        for asked, embedding in zip(new.values(), found, strict=True):
            self._kept[asked.image_key] = embedding
            asked.embedding_seconds = (time.perf_counter() - start) / len(new)
        while len(self._kept) > EMBEDDINGS:
            self._kept.popitem(last=False)

    def next_batch(self, asked: Mapping[int, _Asked]) -> list[_Asked]:
        """Rows of the policy's whose images could be embedded meanwhile, without losing those of others."""
        room = EMBEDDINGS - EMBEDDING_BATCH - len({one.image_key for one in asked.values() if one in self})
        missing = (one for one in asked.values() if one not in self)
        return list(islice(missing, EMBEDDING_BATCH)) if room >= 0 else []

    def get(self, asked: _Asked) -> Embedding:
        self.add([asked])
        self._kept.move_to_end(asked.image_key)
        found = self._kept[asked.image_key]
        if isinstance(found, Exception):
            raise found
        return found


def answer_rows(
    policy: Policy, segmenter: Segmenter, rows: Sequence[Row], numbers: Sequence[int], sampling: Sampling = GREEDY
) -> Iterator[Prediction]:
    """Answer and judge the rows with these numbers; predictions come as they are finished, in any order.

    A row that cannot be read, asked or segmented gives a prediction with ``failure``. Raises InputError for a row
    without a mask, and whatever ends the policy.
    """
    feeder, embeddings = _Feeder(policy, rows, numbers, sampling), _Embeddings(segmenter)
    asked: dict[int, _Asked] = {}  # rows that the policy has, or has just answered
    replies = deque[Reply]()
    thread = threading.Thread(target=feeder.run, name="policy", daemon=True)
    thread.start()
    open_ended = True
    try:
        while open_ended or replies:
            ahead = [] if replies else embeddings.next_batch(asked)
            try:
                event = feeder.events.get(block=open_ended and not replies and not ahead)
            except queue.Empty:
                if replies:
                    embeddings.add([asked[reply.key] for reply in islice(replies, EMBEDDING_BATCH)])
                    reply = replies.popleft()
                    yield _segmented(reply, asked.pop(reply.key), policy, segmenter, embeddings)
                    feeder.done_with_a_row()
                else:
                    embeddings.add(ahead)
                continue
            if event is None:
                open_ended = False
            elif isinstance(event, BaseException):
                raise event
            elif isinstance(event, Reply):
                replies.append(event)
            elif isinstance(event[1], Prediction):
                yield event[1]
                feeder.done_with_a_row()
            else:
                asked[event[0]] = event[1]
    finally:
        feeder.stop()
        thread.join(timeout=60)


def _segmented(
    reply: Reply, asked: _Asked, policy: Policy, segmenter: Segmenter, embeddings: _Embeddings
) -> Prediction:
    row, truth = asked.row, asked.truth
    policy_seconds, start = time.perf_counter() - asked.start, time.perf_counter()

    def seconds() -> dict[str, float]:
        segmenter_seconds = asked.embedding_seconds + time.perf_counter() - start
        return {"policy": round(policy_seconds, 4), "segmenter": round(segmenter_seconds, 4)}

    if reply.problem is not None:
        return failed(reply.key, row, truth, reply.problem, seconds())
    size = (truth.shape[1], truth.shape[0])
    objects = [read_objects(text, policy.spec, size)[1] for text in reply.texts]
    try:
        embedding = embeddings.get(asked)
        found = segmenter.segment_embedded(embedding, [item for some in objects for item in some]).masks
    except Exception as error:
        return failed(reply.key, row, truth, f"SAM2 failed: {type(error).__name__}: {error}", seconds())
    masks, first = [], 0
    for some in objects:
        masks.append(np.asarray(found[first : first + len(some)].any(axis=0)))
        first += len(some)
    return judge(reply.key, row, truth, reply, masks, policy.spec, seconds())
