"""Responses of the server."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from seg_zero.images import encode_png
from seg_zero.masks import encode_mask, resize_mask
from seg_zero.serving.service import Outcome
from seg_zero.visualize import mask_image

EXAMPLE: dict[str, Any] = {
    "question": "the green circle",
    "thinking": "There is one green circle.",
    "objects": [
        {
            "box": [20.0, 31.0, 52.0, 63.0],
            "points": [[36.0, 47.0]],
            "score": 0.97,
            "mask": {"size": [96, 96], "counts": "PY5..."},
            "png": None,
        }
    ],
    "mask": {"size": [96, 96], "counts": "PY5..."},
    "png": None,
    "width": 96,
    "height": 96,
    "problem": None,
    "text": "<think>There is one green circle.</think><answer>[...]</answer>",
    "warning": None,
    "seconds": {"waiting": 0.001, "policy": 0.62, "embedding": 0.03, "segmenter": 0.01},
}


class RunLengths(BaseModel):
    """A mask as COCO's compressed run lengths; pycocotools.mask.decode reads it."""

    size: tuple[int, int] = Field(description="height and width in pixels")
    counts: str


class FoundObject(BaseModel):
    """An object that the policy named, in pixels of the image that was sent."""

    box: tuple[float, float, float, float] | None = Field(description="x1, y1, x2, y2")
    points: list[tuple[float, float]] = Field(description="x, y each")
    score: float = Field(description="SAM2's own estimate of the mask's IoU; 0 if it could not be segmented")
    mask: RunLengths
    png: str | None = Field(None, description="the mask as base64 PNG, with png and per_object")


class SegmentAnswer(BaseModel):
    """The answer to one question. Text of the policy that cannot be read is an answer with a problem."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    question: str
    thinking: str = Field(description="the policy's reasoning")
    objects: list[FoundObject] = Field(description="what it named; may be empty")
    mask: RunLengths = Field(description="the union of the objects' masks")
    png: str | None = Field(None, description="the union as base64 PNG of 0 and 255, with png")
    width: int
    height: int
    problem: str | None = Field(description="why the text holds no usable answer")
    text: str = Field(description="the policy's raw output")
    warning: str | None = Field(description="why the policy answers worse than it could")
    seconds: dict[str, float] = Field(description="time waiting and in the stages; policy and embedding overlap")


class Problem(BaseModel):
    """Why a request got no answer."""

    model_config = ConfigDict(json_schema_extra={"example": {"error": "the image holds 0 bytes; send a picture"}})

    error: str = Field(description="one line")


def png_of(mask: np.ndarray, size: tuple[int, int]) -> bytes:
    """A boolean H x W mask as an encoded picture of 0 and 255, enlarged to (width, height)."""
    return encode_png(mask_image(resize_mask(mask, size)))


def _text_png(mask: np.ndarray) -> str:
    return base64.b64encode(png_of(mask, mask.shape[::-1])).decode("ascii")


def as_utf8(text: str) -> str:
    """The text with a ? for what UTF-8 cannot hold: halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode("utf-8")


def encode(
    question: str,
    outcome: Outcome,
    size: tuple[int, int],
    png: bool = False,
    per_object: bool = False,
    warning: str | None = None,
) -> bytes:
    """JSON of a SegmentAnswer, in pixels of a picture of (width, height) that the outcome's was reduced from.

    ``png`` adds the union as a picture, ``per_object`` with it one for each object.
    """
    sx, sy = size[0] / outcome.size[0], size[1] / outcome.size[1]
    objects = []
    for small, mask, score in zip(outcome.objects, outcome.masks, outcome.scores, strict=True):
        item, whole = small.scaled(sx, sy), resize_mask(mask, size)  # one at a time, as they may be large
        objects.append(
            FoundObject(
                box=item.box,
                points=list(item.points),
                score=float(score),
                mask=RunLengths(**encode_mask(whole)),
                png=_text_png(whole) if png and per_object else None,
            )
        )
    union = resize_mask(outcome.mask, size)
    answer = SegmentAnswer(
        question=question,
        thinking=as_utf8(outcome.answer.thinking),
        objects=objects,
        mask=RunLengths(**encode_mask(union)),
        png=_text_png(union) if png else None,
        width=size[0],
        height=size[1],
        problem=None if outcome.answer.problem is None else as_utf8(outcome.answer.problem),
        text=as_utf8(outcome.answer.text),
        warning=warning,
        seconds={name: round(value, 6) for name, value in outcome.seconds.items()},
    )
    return answer.model_dump_json().encode()
