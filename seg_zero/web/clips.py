"""Questions about clips: one clip at a time is followed, and its questions stand in line with those about pictures."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from seg_zero.errors import InputError
from seg_zero.prompting import check_question
from seg_zero.results.result import SegmentationResult
from seg_zero.segmenter import Segmenter
from seg_zero.segmenter.video import open_tracker
from seg_zero.video.clips import Clip, FileClip
from seg_zero.video.summary import ClipSummary
from seg_zero.video.tracking import KeyFrames, VideoFrame, check_min_iou, segment_clip
from seg_zero.video.writing import open_sinks
from seg_zero.web.asker import PATIENCE, Asker, Waiting

# FFmpeg's names. Playlists and the like are left out: they would make the server read other files.
CONTAINERS = ("mov", "matroska", "avi", "mpegts", "mpeg")
NEWS_EVERY = 0.5  # seconds


@dataclass(frozen=True)
class ClipLimits:
    """What one clip may be: bytes of the file, frames, and pixels of one frame."""

    bytes: int = 200 << 20
    frames: int = 1800
    pixels: int = 16_000_000

    @property
    def words(self) -> str:
        minutes = self.frames / 30 / 60
        return f"up to {self.bytes / 2**20:g} MB and {self.frames:,} frames ({minutes:.2g} min at 30 per second)"


class Stopped(Exception):
    """The user has ended the work."""


@dataclass(frozen=True)
class AskedAt:
    """A key frame: its number and second, the ids of its objects, the policy's reasoning, and what was wrong."""

    frame: int
    seconds: float
    ids: tuple[int, ...]
    thinking: str
    problem: str | None
    warning: str | None = None

    @classmethod
    def of(cls, frame: VideoFrame, answer: SegmentationResult) -> AskedAt:
        ids = tuple(item.id for item in frame.objects)
        return cls(frame.index, frame.seconds, ids, answer.thinking, frame.problem, answer.warning)


@dataclass
class ClipAnswer:
    """What is known so far of a clip of ``count`` frames: ``done`` of them, and the files once all are."""

    count: int
    summary: ClipSummary = field(default_factory=ClipSummary)
    asked: list[AskedAt] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    files: tuple[Path, ...] = ()

    @property
    def done(self) -> int:
        return self.summary.frames

    def add(self, frame: VideoFrame) -> None:
        self.summary.add(frame)
        if frame.answer is not None:
            self.asked.append(AskedAt.of(frame, frame.answer))
        elif frame.problem is not None:
            self.problems.append(frame.problem)


def read_clip(path: Path, limits: ClipLimits) -> FileClip:
    """An uploaded video file. Raises InputError, with the file's name alone, for one that is unusable or too large."""
    size = path.stat().st_size
    if size > limits.bytes:
        raise InputError(f"the clip has {size:,} bytes; the limit is {limits.bytes:,}, cut it or lower its resolution")
    try:
        clip = FileClip(path, CONTAINERS)
    except InputError as error:
        reason = str(error).replace(str(path), path.name)
        raise InputError(reason.removesuffix(", or a folder of frames")) from None
    if len(clip) > limits.frames:
        raise InputError(f"the clip has {len(clip):,} frames; the limit is {limits.frames:,}, cut it")
    if math.prod(clip.size) > limits.pixels:
        width, height = clip.size
        raise InputError(f"the clip has {width}x{height} pixels; the limit is {limits.pixels:,}, make it smaller")
    return clip


class ClipAsker:
    """Follows clips, one after the other; their questions are asked in line with those about pictures."""

    def __init__(self, asker: Asker, segmenter: Segmenter, limits: ClipLimits) -> None:
        self.limits = limits
        self._asker, self._segmenter = asker, segmenter
        self._turn = threading.Lock()
        self._waiting: list[object] = []

    def follow(
        self,
        path: Path,
        question: str,
        folder: Path,
        stop: threading.Event,
        *,
        key_frames: Sequence[int] = (),
        every: float | None = None,
        min_iou: float,
    ) -> Iterator[Waiting | ClipAnswer]:
        """What is known so far, twice a second, and at the end with the files, written into ``folder``.

        A Waiting while other clips come first. Setting ``stop`` raises Stopped at the next frame. Raises InputError
        for an unusable clip, question or option, before any waiting.
        """
        check_question(question)
        check_min_iou(min_iou)
        clip = read_clip(path, self.limits)
        keys = KeyFrames(key_frames, every, len(clip))
        tracker = open_tracker(self._segmenter)
        yield from self._wait(stop)
        try:
            answer = ClipAnswer(len(clip))
            yield answer
            files = (folder / f"{clip.name}_overlay.mp4", folder / f"{clip.name}_masks.json")
            frames = segment_clip(clip, lambda image: self._answer(image, question, stop), tracker, keys, min_iou)
            yield from self._frames(clip, frames, question, files, answer, stop)
            answer.files = files
            yield answer
        finally:
            self._turn.release()

    def _wait(self, stop: threading.Event) -> Iterator[Waiting]:
        """Until no other clip is followed; afterwards this one holds the turn."""
        ticket = object()
        self._waiting.append(ticket)
        try:
            # The first in line tries; the others only look where they stand.
            while self._waiting[0] is not ticket or not self._turn.acquire(timeout=PATIENCE):
                if stop.wait(0 if self._waiting[0] is ticket else PATIENCE):
                    raise Stopped
                yield Waiting(self._waiting.index(ticket) + 1)
        finally:
            self._waiting.remove(ticket)

    def _frames(
        self,
        clip: Clip,
        frames: Iterator[VideoFrame],
        question: str,
        files: tuple[Path, Path],
        answer: ClipAnswer,
        stop: threading.Event,
    ) -> Iterator[ClipAnswer]:
        told = time.monotonic()
        with open_sinks(*files, clip, question) as sinks:
            for frame in frames:
                if stop.is_set():
                    raise Stopped
                for sink in sinks:
                    sink.add(frame)
                answer.add(frame)
                if frame.answer is not None or time.monotonic() - told > NEWS_EVERY:
                    told = time.monotonic()
                    yield answer

    def _answer(self, image: Image.Image, question: str, stop: threading.Event) -> SegmentationResult:
        for event in self._asker.ask(image, question, threading.Event()):
            if isinstance(event, SegmentationResult):
                return event
            if stop.is_set():
                break
        raise Stopped


def read_numbers(text: str) -> tuple[int, ...]:
    """Frame numbers written as ``0, 40, 80``. Raises InputError for anything else, and for none."""
    parts = text.replace(",", " ").replace(";", " ").split()
    if not parts:
        raise InputError("no frame number is given; write for instance 0, 40, 80")
    for part in parts:
        if not part.isascii() or not part.isdecimal() or len(part) > 9:
            raise InputError(f"{part!r} is no frame number; write for instance 0, 40, 80")
    return tuple(int(part) for part in parts)
