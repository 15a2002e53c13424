"""The answer to one question, which draws, saves and converts itself."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, cast

import numpy as np
from PIL import Image

from seg_zero.answer import Answer
from seg_zero.errors import InputError, one_line
from seg_zero.extras import SUPERVISION, require
from seg_zero.files import make_folder
from seg_zero.images import encode_png
from seg_zero.masks import encode_mask, mask_bounds, segmentation_to_mask
from seg_zero.objects import MAX_ABS_COORDINATE, Box, Point, PromptObject
from seg_zero.results.collection import save_alone
from seg_zero.results.files import OVERLAY_SIDE, write_files
from seg_zero.results.outputs import check_outputs
from seg_zero.visualize import DIMMED, overlay

NOTEBOOK_SIDE = 1024  # pixels of the longer side of the picture in a notebook


@dataclass(frozen=True, eq=False)
class SegmentedObject(PromptObject):
    """An object that the policy named, in pixels of the image.

    box: (x1, y1, x2, y2) or None; points: (x, y) each; mask: boolean H x W; score: SAM2's own estimate of
    the mask's IoU, 0 if the object could not be segmented. Equal objects have equal masks.
    """

    mask: np.ndarray = field(kw_only=True, repr=False)
    score: float = field(kw_only=True)

    @classmethod
    def of(cls, items: Sequence[PromptObject], masks: np.ndarray, scores: np.ndarray) -> tuple[SegmentedObject, ...]:
        """Prompts with their masks (boolean N x H x W) and scores (N)."""
        return tuple(
            cls(item.box, item.points, mask=mask, score=float(score))
            for item, mask, score in zip(items, masks, scores, strict=True)
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SegmentedObject):
            return NotImplemented
        mine, theirs = (self.box, self.points, self.score), (other.box, other.points, other.score)
        return mine == theirs and np.array_equal(self.mask, other.mask)

    def __hash__(self) -> int:
        return hash((self.box, self.points, self.score))


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """The answer to one question; all coordinates and masks are in pixels of the given image.

    thinking: the policy's reasoning; objects: what it named (may be empty); masks: boolean N x H x W, those of
    the objects; mask: boolean H x W, their union, or with votes the pixels in more than half of the answers'
    masks; text: the policy's raw output; problem: None, or why the text holds no usable answer; texts: all
    answers, of which with votes the one nearest to ``mask`` is shown in the other fields; seconds: time in the
    stages policy, embedding (0 if the image was known) and segmenter, of which the first two overlap; image: RGB;
    name: the image's path if it was given as one, else empty; warning: None, or why the policy answers worse than it
    could; turns: the answer of each turn if the policy corrected itself (the last that can be read is this one).

    Equal results say the same about pictures of one size: seconds, name, warning and the picture's pixels do not count.
    A notebook shows a result as its overlay.
    """

    question: str
    thinking: str
    objects: tuple[SegmentedObject, ...]
    masks: np.ndarray = field(repr=False)
    mask: np.ndarray = field(repr=False)
    text: str
    problem: str | None
    texts: tuple[str, ...] = field(repr=False)
    seconds: dict[str, float]
    image: Image.Image = field(kw_only=True, repr=False)
    name: str = field(kw_only=True, default="")
    warning: str | None = field(kw_only=True, default=None, repr=False)
    turns: tuple[SegmentationResult, ...] = field(kw_only=True, default=(), repr=False)

    @classmethod
    def of_answer(
        cls,
        question: str,
        answer: Answer,
        objects: Sequence[PromptObject],
        masks: np.ndarray,
        scores: np.ndarray,
        seconds: dict[str, float],
        *,
        image: Image.Image,
        name: str = "",
        warning: str | None = None,
    ) -> SegmentationResult:
        """The result of a single answer: its objects in pixels of the image, with their masks and scores."""
        return cls(
            question=question,
            thinking=answer.thinking,
            objects=SegmentedObject.of(objects, masks, scores),
            masks=masks,
            mask=np.asarray(masks.any(axis=0)),
            text=answer.text,
            problem=answer.problem,
            texts=(answer.text,),
            seconds=seconds,
            image=image,
            name=name,
            warning=warning,
        )

    @property
    def scores(self) -> np.ndarray:
        """Of the objects, float32 N."""
        return np.array([item.score for item in self.objects], dtype=np.float32)

    @property
    def found(self) -> bool:
        return bool(self.mask.any())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SegmentationResult):
            return NotImplemented
        return self._said() == other._said() and np.array_equal(self.mask, other.mask)

    def __hash__(self) -> int:
        return hash((self.question, self.texts))

    def _said(self) -> tuple[object, ...]:
        return (self.question, self.thinking, self.objects, self.text, self.problem, self.texts)

    @property
    def regions(self) -> list[tuple[np.ndarray, float]]:
        """What is to be drawn or annotated, each a boolean H x W mask with its score: the objects that have pixels, or
        with votes the fused mask with the mean score of the objects shown."""
        if len(self.texts) == 1:
            return [(item.mask, item.score) for item in self.objects if item.mask.any()]
        return [(self.mask, float(self.scores.mean()) if self.objects else 0.0)] if self.found else []

    def overlay(self, *, prompts: bool = True, dimmed: float = DIMMED, min_side: int = OVERLAY_SIDE) -> Image.Image:
        """The RGB image with outlined objects and dimmed surroundings, by :func:`seg_zero.visualize.overlay`.

        prompts: also the boxes and points that the policy wrote.
        """
        shown = self.masks if len(self.texts) == 1 else self.mask[None]
        return overlay(self.image, shown, self.objects if prompts else (), dimmed=dimmed, min_side=min_side)

    def _repr_png_(self) -> bytes:
        picture = self.overlay()
        picture.thumbnail((NOTEBOOK_SIDE, NOTEBOOK_SIDE))
        return encode_png(picture)

    def to_dict(self, *, per_object: bool = True) -> dict[str, Any]:
        """The answer as JSON types; ``segmentation`` is COCO RLE of the mask, with ``per_object`` of each object's too.

        Boxes are x1, y1, x2, y2, as the policy wrote them, in pixels of the image. ``texts`` is there with votes,
        ``warning`` if there is one, ``turns`` if the policy corrected itself.
        """
        objects = []
        for item in self.objects:
            entry: dict[str, Any] = {
                "box": None if item.box is None else list(item.box),
                "points": [list(point) for point in item.points],
                "score": round(item.score, 4),
            }
            if per_object:
                entry["segmentation"] = encode_mask(item.mask)
            objects.append(entry)
        record: dict[str, Any] = {
            "image": self.name,
            "width": self.image.width,
            "height": self.image.height,
            "question": self.question,
            "thinking": self.thinking,
            "text": self.text,
            "problem": self.problem,
            "objects": objects,
            "area": int(self.mask.sum()),
            "segmentation": encode_mask(self.mask),
        }
        if len(self.texts) > 1:
            record["texts"] = list(self.texts)
        if self.turns:
            record["turns"] = [turn.to_dict(per_object=per_object) for turn in self.turns]
        return record if self.warning is None else {**record, "warning": self.warning}

    def to_json(self, *, per_object: bool = True) -> str:
        """:meth:`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict(per_object=per_object), ensure_ascii=False)

    @classmethod
    def from_dict(cls, record: dict[str, Any], image: Image.Image) -> SegmentationResult:
        """What :meth:`to_dict` wrote with ``per_object``, about this RGB image.

        Raises InputError if it does not fit.
        """
        try:
            if (record["width"], record["height"]) != image.size:
                raise ValueError(f"it is about {record['width']}x{record['height']} pixels")
            farthest = MAX_ABS_COORDINATE * max(image.size)  # of what a policy writes, in pixels of the image
            objects = tuple(
                SegmentedObject(
                    None if item["box"] is None else cast(Box, _numbers(item["box"], 4, farthest, "box")),
                    tuple(cast(Point, _numbers(point, 2, farthest, "point")) for point in item["points"]),
                    mask=segmentation_to_mask(item["segmentation"], image.height, image.width),
                    score=_numbers([item["score"]], 1, 1e6, "score")[0],
                )
                for item in record["objects"]
            )
            mask = segmentation_to_mask(record["segmentation"], image.height, image.width)
            words = (record["question"], record["thinking"], record["text"])
            texts, notes = record.get("texts", [words[2]]), (record["problem"], record.get("warning"))
            if not isinstance(texts, list) or not texts or not all(isinstance(word, str) for word in (*words, *texts)):
                raise ValueError("question, thinking, text or texts is no text")
            if not all(note is None or isinstance(note, str) for note in notes):
                raise ValueError("problem or warning is no text")
            return cls(
                *(words[0], words[1], objects),
                masks=np.array([item.mask for item in objects], dtype=bool).reshape(len(objects), *mask.shape),
                mask=mask,
                text=words[2],
                problem=notes[0],
                texts=tuple(texts),
                seconds={"policy": 0.0, "embedding": 0.0, "segmenter": 0.0},
                image=image,
                name=str(record["image"]),
                warning=notes[1],
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(f"the answer cannot be read for this image ({one_line(error)}); ask again") from error

    def to_supervision(self) -> Any:
        """The objects as ``supervision.Detections``: tight boxes, masks, scores, and the question as class name.

        Objects without a pixel are omitted. Raises InputError if the package is missing.
        """
        require("to_supervision", SUPERVISION)
        import supervision

        regions = self.regions
        count, size = len(regions), self.mask.shape
        return supervision.Detections(
            xyxy=np.array([mask_bounds(mask) for mask, _ in regions], dtype=np.float32).reshape(count, 4),
            mask=np.array([mask for mask, _ in regions], dtype=bool).reshape(count, *size),
            confidence=np.array([score for _, score in regions], dtype=np.float32),
            class_id=np.zeros(count, dtype=int),
            data={"class_name": np.array([self.question] * count, dtype=str)},
            metadata={"question": self.question, "thinking": self.thinking},
        )

    def save(
        self,
        folder: str | Path,
        name: str | None = None,
        outputs: Collection[str] = ("overlay", "mask", "rle"),
        *,
        per_object: bool = False,
        prompts: bool = True,
    ) -> dict[str, str]:
        """Write the answer's files into ``folder``; returns their paths by output.

        name: what they begin with (None: the image's own name, else "answer"); outputs: any of OUTPUTS and KINDS of
        :mod:`seg_zero.results.outputs`; per_object: also a mask and a cut-out of each object; prompts: draw boxes and
        points. Raises InputError for an unknown output and for files that cannot be written.
        """
        check_outputs(outputs)
        stem = name or PurePath(self.name).stem or "answer"
        place = make_folder(Path(folder)) / f"{stem}_overlay.png"
        files = write_files(place, stem, self, outputs, per_object=per_object, show_prompts=prompts)
        return {**files, **save_alone(self, Path(folder), stem, outputs)}


def _numbers(given: Any, count: int, farthest: float, what: str) -> tuple[float, ...]:
    """So many numbers, none of them beyond ``farthest``. Raises ValueError or the like for anything else."""
    numbers = tuple(float(value) for value in given)
    if len(numbers) != count or not all(-farthest <= value <= farthest for value in numbers):  # False for NaN
        raise ValueError(f"the {what} {list(numbers)} is not {count} numbers within {farthest:g}")
    return numbers
