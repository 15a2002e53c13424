"""Responses of the server."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from seg_zero.masks import encode_mask
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


def png_of(mask: np.ndarray) -> bytes:
    """A boolean H x W mask as an encoded picture of 0 and 255."""
    buffer = io.BytesIO()
    mask_image(mask).save(buffer, format="PNG")
    return buffer.getvalue()


def _text_png(mask: np.ndarray) -> str:
    return base64.b64encode(png_of(mask)).decode("ascii")


def _unicode(text: str) -> str:
    """The text with a ? for what UTF-8 cannot hold: halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode("utf-8")


def encode(question: str, outcome: Outcome, png: bool, per_object: bool, warning: str | None = None) -> bytes:
    """JSON of a SegmentAnswer; ``png`` adds the union as a picture, ``per_object`` with it one for each object."""
    objects = [
        FoundObject(
            box=item.box,
            points=list(item.points),
            score=float(score),
            mask=RunLengths(**encode_mask(mask)),
            png=_text_png(mask) if png and per_object else None,
        )
        for item, mask, score in zip(outcome.objects, outcome.masks, outcome.scores, strict=True)
    ]
    answer = SegmentAnswer(
        question=question,
        thinking=_unicode(outcome.answer.thinking),
        objects=objects,
        mask=RunLengths(**encode_mask(outcome.mask)),
        png=_text_png(outcome.mask) if png else None,
        width=outcome.size[0],
        height=outcome.size[1],
        problem=None if outcome.answer.problem is None else _unicode(outcome.answer.problem),
        text=_unicode(outcome.answer.text),
        warning=warning,
        seconds={name: round(value, 6) for name, value in outcome.seconds.items()},
    )
    return answer.model_dump_json().encode()
