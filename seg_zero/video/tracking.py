"""An answer carried through a clip: key frames, identities, and the frames between them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy.optimize import linear_sum_assignment

from seg_zero.errors import InputError
from seg_zero.masks import decode_mask, encode_mask
from seg_zero.segmenter.video import Tracker
from seg_zero.video.clips import Clip, ClipFrame, backwards

if TYPE_CHECKING:
    from seg_zero.results.result import SegmentationResult

MATCH_IOU = 0.5

Masks = Mapping[int, np.ndarray]


@dataclass(frozen=True)
class VideoObject:
    """An object in a frame: ``id`` (from 1) stays its own through the clip; ``mask`` boolean H x W, maybe empty."""

    id: int
    mask: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class VideoFrame:
    """What is known of one frame.

    index: from 0; seconds: from the start of the clip; image: RGB, None if the frame cannot be read (its objects are
    those of the frame before); objects: by id; answer: the policy's, on the frames on which it was asked; problem:
    None, or what went wrong with this frame or answer.
    """

    index: int
    seconds: float
    image: Image.Image | None = field(repr=False)
    objects: tuple[VideoObject, ...]
    answer: SegmentationResult | None = field(default=None, repr=False)
    problem: str | None = None

    @property
    def masks(self) -> np.ndarray:
        """Boolean N x H x W, those of the objects; without objects of shape (0, 0, 0)."""
        return np.stack([item.mask for item in self.objects]) if self.objects else np.zeros((0, 0, 0), dtype=bool)


class KeyFrames:
    """On which frames the policy is asked: some by number, or one every so many seconds."""

    def __init__(self, numbers: Sequence[int], every: float | None, count: int) -> None:
        """``numbers``: any order; without them and without ``every``, frame 0. ``count``: frames of the clip.

        Raises InputError for a number outside the clip, for ``every`` that is not above 0, and for both.
        """
        if every is not None and numbers:
            raise InputError("key frames are given by number and by seconds; choose one of them")
        if every is not None and not every > 0:
            raise InputError(f"every={every} seconds is not above 0; try 2")
        for number in numbers:
            if not 0 <= number < count:
                raise InputError(f"key frame {number} is outside the clip, whose frames are 0 to {count - 1}")
        self._numbers = sorted(set(numbers)) or ([0] if every is None else [])
        self._every, self._due = every, 0.0

    @property
    def first(self) -> int:
        return self._numbers[0] if self._numbers else 0

    def is_due(self, index: int, seconds: float) -> bool:
        """Whether the policy is to be asked on this frame, or was on an earlier one."""
        return seconds >= self._due if self._every is not None else bool(self._numbers) and index >= self._numbers[0]

    def done(self, index: int, seconds: float) -> None:
        """The policy was asked on this frame."""
        if self._every is not None:
            self._due = (seconds // self._every + 1) * self._every
        self._numbers = [number for number in self._numbers if number > index]


def check_min_iou(value: float) -> None:
    """Raises InputError for a ``min_iou`` out of range."""
    if not 0 < value <= 1:
        raise InputError(f"min_iou={value} is not above 0 and at most 1; try {MATCH_IOU}")


def match(running: Masks, found: Sequence[np.ndarray], min_iou: float = MATCH_IOU) -> dict[int, int]:
    """Which running object each found mask is: {index of found: id}, so that the sum of IoUs is greatest.

    Pairs below ``min_iou`` do not count as the same object.
    """
    numbers = list(running)
    overlaps = np.array([[_iou(mask, running[number]) for number in numbers] for mask in found])
    if not overlaps.size:
        return {}
    overlaps[overlaps < min_iou] = 0
    rows, columns = linear_sum_assignment(overlaps, maximize=True)
    return {int(row): numbers[column] for row, column in zip(rows, columns, strict=True) if overlaps[row, column] > 0}


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


class _Spool:
    """Masks of frames that are seen from the last to the first and needed from the first on, on disk."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115 (closed by close)
        self._offsets: list[int] = []

    def push(self, masks: Masks) -> None:
        self._offsets.append(self._file.tell())
        self._file.write(json.dumps({number: encode_mask(mask) for number, mask in masks.items()}) + "\n")

    def pop(self) -> dict[int, np.ndarray]:
        self._file.seek(self._offsets.pop())
        return {int(number): decode_mask(rle) for number, rle in json.loads(self._file.readline()).items()}

    def close(self) -> None:
        self._file.close()


class _Objects:
    """The objects in view, and the tracker that carries them from frame to frame."""

    def __init__(self, tracker: Tracker, min_iou: float) -> None:
        self._tracker, self._min_iou = tracker, min_iou
        self._next_id = 1
        self.masks: dict[int, np.ndarray] = {}

    def step(self, frame: ClipFrame) -> None:
        """Carry the masks to the next frame; past one that cannot be read, they stay as they are."""
        if frame.image is not None and self.masks:
            self.masks = self._tracker.step(frame.image)

    def anchor(self, image: Image.Image, answer: SegmentationResult) -> str | None:
        """Take over an answer's masks: each goes on as the running object it overlaps, or is new.

        Running objects that it does not name end. An answer without masks changes nothing. Returns None, or why there
        are no masks.
        """
        found = [item.mask for item in answer.objects if item.mask.any()]
        if not found:
            return f"no object found ({answer.problem or 'the answer names none'})"
        known = match(self.masks, found, self._min_iou)
        masks = {}
        for index, mask in enumerate(found):
            number = known.get(index)
            if number is None:
                number, self._next_id = self._next_id, self._next_id + 1
            masks[number] = mask
        self.masks = dict(sorted(masks.items()))
        self.restart(image, self.masks)
        return None

    def restart(self, image: Image.Image, masks: Masks) -> None:
        self.masks = dict(masks)
        self._tracker.start(image, masks)


def segment_clip(
    clip: Clip,
    ask: Callable[[Image.Image], SegmentationResult],
    tracker: Tracker,
    keys: KeyFrames,
    min_iou: float = MATCH_IOU,
) -> Iterator[VideoFrame]:
    """Every frame of a clip in order, with the objects that the policy named on the key frames.

    ask: the policy's answer about an image; min_iou: least overlap of a new answer's mask and a running object of the
    same identity. Frames before the first key frame get its objects too, carried backwards. A key frame that cannot be
    read gives way to the next one that can.

    Raises InputError if no frame from the first key frame on can be read.
    """
    objects = _Objects(tracker, min_iou)
    first, first_answer, problem = _first_answer(clip, ask, objects, keys)
    if first.index:
        yield from _before(clip, first, objects)
    yield _frame(clip, first, objects.masks, first_answer, problem)
    for frame in clip.read(first.index + 1, len(clip)):
        seconds = clip.seconds(frame.index)
        objects.step(frame)
        answer: SegmentationResult | None = None
        problem = frame.problem
        if frame.image is not None and keys.is_due(frame.index, seconds):
            answer = ask(frame.image)
            keys.done(frame.index, seconds)
            problem = objects.anchor(frame.image, answer)
        yield _frame(clip, frame, objects.masks, answer, problem)


def _first_answer(
    clip: Clip, ask: Callable[[Image.Image], SegmentationResult], objects: _Objects, keys: KeyFrames
) -> tuple[ClipFrame, SegmentationResult, str | None]:
    problem = None
    for frame in clip.read(keys.first, len(clip)):
        if frame.image is not None:
            answer = ask(frame.image)
            keys.done(frame.index, clip.seconds(frame.index))
            return frame, answer, objects.anchor(frame.image, answer)
        problem = problem or frame.problem
    raise InputError(f"{problem}, nor any frame after it; name an earlier key frame")


def _before(clip: Clip, first: ClipFrame, objects: _Objects) -> Iterator[VideoFrame]:
    """The frames before the first answer; afterwards the objects are where they were."""
    assert first.image is not None
    anchors, spool = objects.masks, _Spool()
    try:
        if anchors:
            for frame in backwards(clip, first.index):
                objects.step(frame)
                spool.push(objects.masks)
            objects.restart(first.image, anchors)
        for frame in clip.read(0, first.index):
            yield _frame(clip, frame, spool.pop() if anchors else {}, None, frame.problem)
    finally:
        spool.close()


def _frame(
    clip: Clip, frame: ClipFrame, masks: Masks, answer: SegmentationResult | None, problem: str | None
) -> VideoFrame:
    objects = tuple(VideoObject(number, mask) for number, mask in masks.items())
    return VideoFrame(frame.index, clip.seconds(frame.index), frame.image, objects, answer, problem)
