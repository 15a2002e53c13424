"""One user's questions, answers and corrections: pure state, without page, models or threads."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.answer import MAX_OBJECTS
from seg_zero.errors import InputError
from seg_zero.masks import decode_mask, encode_mask, resize_mask
from seg_zero.objects import Box, Point, PromptObject
from seg_zero.results.result import SegmentationResult, SegmentedObject
from seg_zero.serving.service import Refused
from seg_zero.serving.uploads import Limits, Upload, read_image

VIEW_SIDE = 1280  # pixels; larger pictures are shown smaller, and asked about as they are
HISTORY = 12  # questions kept for one user; the picture of each, too
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"


@dataclass(frozen=True, eq=False)
class Picture:
    """An opened picture: its original file, (width, height) in pixels of that file, and an RGB copy to show.

    seen: (width, height) at which models see it, smaller than ``size`` for a large picture.
    """

    name: str
    data: bytes = field(repr=False)
    size: tuple[int, int]
    seen: tuple[int, int]
    view: Image.Image = field(repr=False)

    @classmethod
    def read(cls, name: str, data: bytes, limits: Limits) -> Picture:
        """Raises Refused, with one line for the user, for a file that is no picture or too large."""
        if len(data) > limits.upload_bytes:
            raise Refused(413, f"the picture has {len(data):,} bytes; the limit is {limits.upload_bytes:,}")
        upload = read_image(data, limits)
        view = upload.image.copy()
        view.thumbnail((VIEW_SIDE, VIEW_SIDE))
        return cls(name, data, upload.size, upload.image.size, view)

    @property
    def in_browsers(self) -> bool:
        """Whether browsers show the file as it is: all but TIFF and HEIC."""
        return self.data[:2] not in (b"II", b"MM") and not self.is_heic

    @property
    def is_heic(self) -> bool:
        return self.data[4:8] == b"ftyp"

    def open(self, limits: Limits) -> Upload:
        """What models see. Only the file is kept, since a history of pictures would fill the memory."""
        return read_image(self.data, limits)


@dataclass(frozen=True)
class Item:
    """An object of an answer: prompt in pixels of the picture, mask as COCO RLE, SAM2's score, whether it is shown.

    The mask has the size at which the models saw the picture, which is smaller for a large one.
    """

    prompt: PromptObject
    mask: dict[str, Any] = field(repr=False)
    score: float
    shown: bool = True

    @classmethod
    def of(cls, prompt: PromptObject, mask: np.ndarray, score: float) -> Item:
        """From a boolean H x W mask."""
        return cls(PromptObject(prompt.box, prompt.points), encode_mask(mask), score)


@dataclass(eq=False)
class Turn:
    """A question, its answer, and whether it was corrected by hand since (``edited``).

    seconds: per stage, of the question or of the latest correction; corrections: how often the policy corrected it.
    """

    picture: Picture
    question: str
    thinking: str
    text: str
    problem: str | None
    items: list[Item]
    seconds: dict[str, float]
    edited: bool = False
    warning: str | None = None
    corrections: int = 0

    @classmethod
    def of(cls, picture: Picture, result: SegmentationResult, corrections: int = 0) -> Turn:
        """From an answer in pixels of the picture as the models saw it."""
        sx, sy = picture.size[0] / result.mask.shape[1], picture.size[1] / result.mask.shape[0]
        items = [Item.of(one.scaled(sx, sy), one.mask, one.score) for one in result.objects]
        return cls(
            *(picture, result.question, result.thinking, result.text, result.problem, items, dict(result.seconds)),
            warning=result.warning,
            corrections=corrections,
        )

    def result(self, image: Image.Image | None = None) -> SegmentationResult:
        """The answer as it is now, in pixels of the picture in the size of ``image``.

        None: about a blank picture of its own size, since of the picture only the size is in files about the answer.
        """
        image = Image.new("1", self.picture.size) if image is None else image
        sx, sy = image.width / self.picture.size[0], image.height / self.picture.size[1]
        masks = np.zeros((len(self.items), image.height, image.width), dtype=bool)
        for mask, item in zip(masks, self.items, strict=True):
            mask[:] = resize_mask(decode_mask(item.mask), image.size)
        objects = [item.prompt.scaled(sx, sy) for item in self.items]
        return SegmentationResult(
            question=self.question,
            thinking=self.thinking,
            objects=SegmentedObject.of(objects, masks, np.array([item.score for item in self.items])),
            masks=masks,
            mask=np.asarray(masks.any(axis=0)),
            text=self.text,
            problem=self.problem,
            texts=(self.text,),
            seconds=self.seconds,
            image=image,
            name=self.picture.name,
            warning=self.warning,
        )

    def record(self, result: SegmentationResult) -> dict[str, Any]:
        """What ``seg-zero infer --per_object`` writes as JSON; with ``edited`` if objects were corrected by hand, and
        ``corrections``, how often by the policy, if it was.

        result: what :meth:`result` gives, which takes long for a large picture.
        """
        record = result.to_dict()
        if self.edited:
            record["edited"] = True
        if self.corrections:
            record["corrections"] = self.corrections
        return record

    def put(self, index: int, item: Item, seconds: dict[str, float]) -> None:
        """Replace an object, or add one at the end."""
        self.items[index : index + 1] = [item]
        self.edited, self.seconds = True, seconds

    def remove(self, index: int) -> None:
        del self.items[index]
        self.edited = True

    def show_only(self, numbers: Sequence[int]) -> None:
        """Show the objects of these numbers, from 1 up, and hide the others."""
        self.items = [replace(item, shown=number in numbers) for number, item in enumerate(self.items, start=1)]


@dataclass(eq=False)
class Asking:
    """What one user asks about. picture: asked about next, and path: the file that the page shows of it; stop: ends the
    question that is being answered."""

    picture: Picture | None = None
    path: str | None = None
    stop: threading.Event | None = None

    def open(self, path: str | None, limits: Limits) -> Picture | None:
        """The picture behind the file that the page shows, read if it is a new one. Raises Refused as Picture.read."""
        if path != self.path:
            self.picture, self.path = None, None
            if path is not None:
                file = Path(path)
                self.picture, self.path = Picture.read(file.name, file.read_bytes(), limits), path
        return self.picture

    def end(self) -> None:
        """End the question that is being answered, if there is one."""
        if self.stop is not None:
            self.stop.set()


@dataclass(eq=False)
class Session(Asking):
    """The state of one user.

    turns: the newest first; current: the one shown; selected: the object of it that is corrected, from 0 up (its number
    of objects: a new one); corner: of a box, set by a first click.
    """

    turns: list[Turn] = field(default_factory=list)
    current: Turn | None = None
    selected: int = 0
    corner: Point | None = None

    def answered(self, turn: Turn) -> None:
        self.turns = [turn, *self.turns][:HISTORY]
        self.choose(turn)

    def choose(self, turn: Turn) -> None:
        self.current = turn
        self.select(0)

    def select(self, index: int) -> None:
        self.selected, self.corner = index, None

    @property
    def prompt(self) -> PromptObject:
        """Of the selected object; without box and points for a new one."""
        turn = self.current
        if turn is None or self.selected >= len(turn.items):
            return PromptObject(None)
        return turn.items[self.selected].prompt

    def clicked(self, point: Point, sets_box: bool) -> PromptObject | None:
        """The selected object after a click at pixels of the picture; None if a box waits for its second corner."""
        if not sets_box:
            return PromptObject(self.prompt.box, (*self.prompt.points, point))
        if self.corner is None:
            self.corner = point
            return None
        corner, self.corner = self.corner, None
        return PromptObject((*corner, *point), self.prompt.points)


def read_points(text: str) -> tuple[Point, ...]:
    """Points written as ``144, 40; 150, 60``. Raises InputError for anything else."""
    points = []
    for part in filter(None, (piece.strip() for piece in re.split(r"[;\n]", text))):
        match = re.fullmatch(rf"\(?\s*({_NUMBER})[\s,]+({_NUMBER})\s*\)?", part)
        if match is None:
            raise InputError(f"point {part!r} is not two numbers; write x, y and a semicolon between points")
        points.append((float(match[1]), float(match[2])))
    return tuple(points)


def write_points(points: Sequence[Point]) -> str:
    return "; ".join(f"{write_pixel(x)}, {write_pixel(y)}" for x, y in points)


def write_pixel(value: float) -> str:
    """A coordinate to a tenth of a pixel."""
    return f"{round(value, 1):g}" if abs(value) < 1e5 else f"{value:.0f}"


def read_box(values: Sequence[float | None]) -> Box | None:
    """x1, y1, x2, y2, either all given or none. Raises InputError otherwise."""
    given = [value for value in values if value is not None]
    if not given:
        return None
    if len(given) < len(values):
        raise InputError("the box lacks a number; give x1, y1, x2 and y2, or none of them")
    x1, y1, x2, y2 = given
    return (x1, y1, x2, y2)


def usable(prompt: PromptObject, size: tuple[int, int]) -> PromptObject:
    """An object given by hand with its box in order and within the picture of (width, height).

    Raises InputError for one without box and points, a box without an area in the picture, or a point outside.
    """
    width, height = size
    if prompt.box is None and not prompt.points:
        raise InputError("the object has neither a box nor a point; give one of them")
    box = None
    if prompt.box is not None:
        if not all(map(math.isfinite, prompt.box)):
            raise InputError("the box holds a number that is not finite; give pixels of the picture")
        x1, x2 = (min(max(x, 0.0), float(width)) for x in sorted((prompt.box[0], prompt.box[2])))
        y1, y2 = (min(max(y, 0.0), float(height)) for y in sorted((prompt.box[1], prompt.box[3])))
        if x1 == x2 or y1 == y2:
            shown = ", ".join(f"{value:g}" for value in prompt.box)
            raise InputError(f"the box {shown} has no area in the picture of {width}x{height}; set other corners")
        box = (x1, y1, x2, y2)
    for x, y in prompt.points:
        if not (0 <= x <= width and 0 <= y <= height):
            raise InputError(f"the point {x:g}, {y:g} is outside the picture of {width}x{height}; give one within")
    return PromptObject(box, prompt.points)


def check_room(turn: Turn) -> None:
    """Raises InputError if no further object may be added."""
    if len(turn.items) >= MAX_OBJECTS:
        raise InputError(f"there are {len(turn.items)} objects, the most that an answer may hold; remove one first")
