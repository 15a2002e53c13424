"""Rows to predictions: the policy writes in one thread while SAM2 embeds and segments in another.

SAM2 works on groups of GROUP_ROWS neighbouring rows, which are the same whenever and wherever a part is answered, since
the last bits of SAM2's output depend on what is batched together. An image is embedded once for all rows of a part.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from seg_zero.answer import Answer
from seg_zero.data.rows import Row
from seg_zero.errors import InputError
from seg_zero.evaluation.predictions import PART_ROWS, Prediction, failed, judge
from seg_zero.objects import PromptObject
from seg_zero.policy import GREEDY, Policy, Reply, Request, Sampling
from seg_zero.prompting import check_question, read_objects
from seg_zero.segmenter import Embedding, Segmenter

GROUP_ROWS = 16
GROUPS_AHEAD = 3  # embedded while the policy still writes; a group of a large SAM2 takes 0.25 GiB


@dataclass
class _Asked:
    """A row on its way through the policy; ``seconds`` is when it began, then how long the policy took."""

    row: Row
    truth: np.ndarray
    image_key: bytes
    seconds: float


@dataclass
class _Group:
    """Neighbouring rows: those that were handed to the policy, its replies, and the images that are new in the part.

    whole: all of its rows have been read.
    """

    part: int
    members: dict[int, _Asked] = field(default_factory=dict)
    replies: dict[int, Reply] = field(default_factory=dict)
    new_images: dict[bytes, Image.Image] = field(default_factory=dict)
    whole: bool = False
    embedded: bool = False

    @property
    def answered(self) -> bool:
        return self.whole and len(self.replies) == len(self.members)


def _group_of(number: int) -> tuple[int, int]:
    return number // PART_ROWS, number // GROUP_ROWS


class _Stopped(Exception):
    """The consumer wants no more rows."""


class _Feeder:
    """Reads rows for the policy in the policy's thread and passes on everything that happens.

    Events are a group when a row of it was handed over or its last row was read, Prediction for a row that cannot be
    answered, Reply, an exception that ended the policy, and None at its end.
    """

    def __init__(self, policy: Policy, rows: Sequence[Row], numbers: Sequence[int], sampling: Sampling) -> None:
        self._policy, self._rows, self._numbers, self._sampling = policy, rows, numbers, sampling
        self.events: queue.Queue[_Group | Prediction | Reply | BaseException | None] = queue.Queue()
        # The policy must be able to fill its batch while earlier rows wait for the rest of their group.
        self._room = threading.Semaphore(2 * policy.in_flight + 2 * GROUP_ROWS)
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
        group, part, seen = _Group(-1), -1, set[bytes]()
        for place, number in enumerate(self._numbers):
            self._room.acquire()
            if self._stopped:
                raise _Stopped
            if number // PART_ROWS != part:
                part, seen = number // PART_ROWS, set()
            if place == 0 or _group_of(number) != _group_of(self._numbers[place - 1]):
                group = _Group(part)
            request = self._read(number, group, seen)
            if place + 1 == len(self._numbers) or _group_of(self._numbers[place + 1]) != _group_of(number):
                group.whole = True
            self.events.put(group)
            if request is not None:
                yield request

    def _read(self, number: int, group: _Group, seen: set[bytes]) -> Request | None:
        """The request for a row, which joins its group; None if it cannot be read."""
        start = time.perf_counter()
        row, truth = None, None
        try:
            row = self._rows[number]
            truth = row.truth()
            image = row.image()
            if truth is not None and truth.shape != (image.height, image.width):
                raise InputError(f"row {row.id!r}: the mask is not of the image's size")
            row.objects()
            check_question(row.problem)
        except (InputError, ValueError) as error:
            self.events.put(
                failed(number, row, truth, f"row cannot be read: {error}", {"policy": 0.0, "segmenter": 0.0})
            )
            return None
        if truth is None:
            raise InputError(
                f"row {number} ({row.id!r}) has no mask; evaluation needs the column 'mask', see docs/data.md"
            )
        key = hashlib.blake2b(row.image_bytes, digest_size=16).digest()
        if key not in seen:
            seen.add(key)
            group.new_images[key] = image
        group.members[number] = _Asked(row, truth, key, start)
        return Request(number, image, row.problem)


class _Segmenting:
    """Embeds and segments groups, in the order in which they were read."""

    def __init__(self, policy: Policy, segmenter: Segmenter) -> None:
        self._policy, self._segmenter = policy, segmenter
        self._kept: dict[tuple[int, bytes], Embedding | Exception] = {}  # of the parts that are not finished
        self.images_embedded = 0

    def embed(self, group: _Group) -> None:
        """Embed the group's new images, in one batch; what fails is raised where it is needed."""
        if group.embedded:
            return
        group.embedded = True
        images = list(group.new_images.values())
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
        keys = [(group.part, key) for key in group.new_images]
        self._kept.update(zip(keys, found, strict=True))
        group.new_images.clear()

    def segment(self, group: _Group) -> list[Prediction]:
        """The predictions of an answered group."""
        self.embed(group)
        start = time.perf_counter()
        numbers = sorted(group.members)
        read = {number: self._read(group, number) for number in numbers}
        objects = {number: [some for _, some in read[number]] for number in numbers}
        try:
            masks = dict(zip(numbers, self._masks(group, numbers, objects), strict=True))
            problems: dict[int, Exception] = {}
        except Exception:  # one row must not cost the others their masks
            masks, problems = {}, {}
            for number in numbers:
                try:
                    masks[number] = self._masks(group, [number], objects)[0]
                except Exception as error:
                    problems[number] = error
        each = round((time.perf_counter() - start) / max(len(numbers), 1), 4)
        predictions = []
        for number in numbers:
            asked, reply = group.members[number], group.replies[number]
            seconds = {"policy": round(asked.seconds, 4), "segmenter": each}
            failure = reply.problem
            if number in problems:
                failure = f"SAM2 failed: {type(problems[number]).__name__}: {problems[number]}"
            if failure is not None:
                predictions.append(failed(number, asked.row, asked.truth, failure, seconds))
                continue
            spec = self._policy.spec
            predictions.append(judge(number, asked.row, asked.truth, reply, read[number], masks[number], spec, seconds))
        return predictions

    def keep_only(self, parts: set[int]) -> None:
        """Drop the embeddings of other parts."""
        for key in [key for key in self._kept if key[0] not in parts]:
            del self._kept[key]

    def _read(self, group: _Group, number: int) -> list[tuple[Answer, tuple[PromptObject, ...]]]:
        """The answer in each text of a row, and its objects in pixels of the image."""
        height, width = group.members[number].truth.shape
        return [read_objects(text, self._policy.spec, (width, height)) for text in group.replies[number].texts]

    def _masks(
        self, group: _Group, numbers: Sequence[int], objects: dict[int, list[tuple[PromptObject, ...]]]
    ) -> list[list[np.ndarray]]:
        """For each row the masks of its texts, boolean H x W."""
        embeddings = []
        for number in numbers:
            embedding = self._kept[group.part, group.members[number].image_key]
            if isinstance(embedding, Exception):
                raise embedding
            embeddings.append(embedding)
        flat = [[item for some in objects[number] for item in some] for number in numbers]
        masks = []
        for number, found in zip(numbers, self._segmenter.segment_all(embeddings, flat), strict=True):
            first, of_texts = 0, []
            for some in objects[number]:
                of_texts.append(np.asarray(found.masks[first : first + len(some)].any(axis=0)))
                first += len(some)
            masks.append(of_texts)
        return masks


def answer_rows(
    policy: Policy, segmenter: Segmenter, rows: Sequence[Row], numbers: Sequence[int], sampling: Sampling = GREEDY
) -> Iterator[Prediction]:
    """Answer and judge the rows with these numbers; predictions come as they are finished, in any order.

    Rows of a part must be consecutive and in order. A row that cannot be read, asked or segmented gives a prediction
    with ``failure``. Raises InputError for a row without a mask, and any error that ends the policy.
    """
    feeder, segmenting = _Feeder(policy, rows, numbers, sampling), _Segmenting(policy, segmenter)
    groups: list[_Group] = []  # in the order of reading
    group_of: dict[int, _Group] = {}
    thread = threading.Thread(target=feeder.run, name="policy", daemon=True)
    thread.start()
    open_ended, newest_part = True, -1
    try:
        while open_ended or groups:
            ready = next((group for group in groups if group.answered), None)
            ahead = next((group for group in groups[:GROUPS_AHEAD] if group.whole and not group.embedded), None)
            try:
                event = feeder.events.get(block=open_ended and ready is None and ahead is None)
            except queue.Empty:
                if ready is None:
                    assert ahead is not None
                    segmenting.embed(ahead)
                    continue
                for group in groups[: groups.index(ready)]:
                    if group.part == ready.part:
                        segmenting.embed(group)  # a later group may show its images again
                yield from segmenting.segment(ready)
                groups.remove(ready)
                segmenting.keep_only({newest_part, *(group.part for group in groups)})
                for number in ready.members:
                    del group_of[number]
                    feeder.done_with_a_row()
                continue
            if event is None:
                open_ended = False
            elif isinstance(event, BaseException):
                raise event
            elif isinstance(event, Reply):
                group = group_of[event.key]
                asked = group.members[event.key]
                asked.seconds = time.perf_counter() - asked.seconds
                group.replies[event.key] = event
            elif isinstance(event, Prediction):
                yield event
                feeder.done_with_a_row()
            else:
                if not any(event is group for group in groups):
                    groups.append(event)
                group_of.update(dict.fromkeys(list(event.members), event))
                newest_part = event.part
    finally:
        feeder.stop()
        thread.join(timeout=60)
