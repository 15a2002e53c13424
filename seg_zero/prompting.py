"""Question and image to chat messages: the one prompt and the one resize rule.

Training, evaluation and inference all build their prompts here, so that what a policy was trained
on is what it is asked. The settings that decide a prompt travel with a checkpoint in the file
``seg_zero.json`` beside the weights.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image

from seg_zero.answer import PromptObject
from seg_zero.errors import InputError

SPEC_FILE = "seg_zero.json"

_SINGLE_EXAMPLE = '{"bbox": [10,100,200,210], "points_1": [30,110], "points_2": [35,180]}'
_MULTI_EXAMPLE = (
    '[{"bbox_2d": [10,100,200,210], "point_2d": [30,110]}, {"bbox_2d": [225,296,706,786], "point_2d": [302,410]}]'
)

TEMPLATES: dict[str, str] = {
    # One object: a box and the centres of two inscribed circles.
    "single": (
        'Locate "{question}" in the image and give its bounding box and two points. '
        "Look at the objects one against another and settle on the single one that fits the description best. "
        "Write your reasoning inside <think> </think> and the result inside <answer> </answer>. "
        "The result is JSON: one box around the object, and the centre points of the two largest circles "
        "that fit inside it. For example: "
        f"<think> reasoning goes here </think><answer>{_SINGLE_EXAMPLE}</answer>"
    ),
    # Any number of objects, none included.
    "multi": (
        'Locate every object that matches "{question}" in the image and give a bounding box and a point for each. '
        "Look at the objects one against another and settle on those that fit the description best. "
        "Write your reasoning inside <think> </think> and the result inside <answer> </answer>. "
        "The result is a JSON list with one box and one inner point per object, an empty list if nothing "
        f"matches. For example: <think> reasoning goes here </think><answer>{_MULTI_EXAMPLE}</answer>"
    ),
    # The multi format for small policies that were taught it and need no instructions.
    "brief": 'Find "{question}". Reply <think></think><answer></answer>.',
}


@dataclass(frozen=True)
class PromptSpec:
    """What decides a prompt, kept beside the checkpoint.

    template: a key of :data:`TEMPLATES`.
    image_size: side in pixels of the square that every image is stretched to (aspect not kept, as in
        the published data); answers are in pixels of this square. A multiple of 28, the size of one
        Qwen2.5-VL image token, so that the processor does not resize once more.
    """

    template: str = "multi"
    image_size: int = 840

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise InputError(f"unknown prompt template {self.template!r}; choose one of {sorted(TEMPLATES)}")
        if not 28 <= self.image_size <= 3584 or self.image_size % 28:
            raise InputError(f"image_size {self.image_size} is not a multiple of 28 within 28..3584 pixels; try 840")

    @property
    def multi(self) -> bool:
        return self.template != "single"

    def save(self, folder: Path) -> None:
        (Path(folder) / SPEC_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> PromptSpec | None:
        """The spec saved in a model folder, or None if it has none (e.g. a hub checkpoint)."""
        path = Path(folder) / SPEC_FILE
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text())
            unknown = set(values) - {f.name for f in fields(cls)}
            if unknown:
                raise ValueError(f"unknown keys {sorted(unknown)}")
            return cls(**values)
        except (ValueError, TypeError) as error:
            raise InputError(f"cannot read {path}: {error}. Delete it to use the defaults") from error


def normalise_question(question: str) -> str:
    """Lower case, outer white space and final punctuation removed, as in the published training data."""
    text = " ".join(question.split()).lower().rstrip(" .!?,;:\"'")
    if not text:
        raise InputError(f"the question {question!r} is empty; describe what to segment")
    return text


def build_messages(question: str, spec: PromptSpec, image: Image.Image | None = None) -> list[dict[str, Any]]:
    """Chat messages of one question: a user turn with the image, then the text.

    Without ``image`` the image entry is a bare placeholder, which is what chat templates need.
    """
    text = TEMPLATES[spec.template].replace("{question}", normalise_question(question))
    entry: dict[str, Any] = {"type": "image"} if image is None else {"type": "image", "image": image}
    return [{"role": "user", "content": [entry, {"type": "text", "text": text}]}]


def resize_for_policy(image: Image.Image, spec: PromptSpec) -> Image.Image:
    """The RGB image stretched to ``spec.image_size`` squared, as the policy sees it.

    Shrinking averages areas (box filter); enlarging interpolates.
    """
    side = spec.image_size
    if image.size == (side, side):
        return image
    shrinks = image.width >= side and image.height >= side
    return image.resize((side, side), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)


def to_image_pixels(item: PromptObject, spec: PromptSpec, width: int, height: int) -> PromptObject:
    """A policy's object in pixels of the original ``width`` x ``height`` image."""
    return item.scaled(width / spec.image_size, height / spec.image_size)


def to_policy_pixels(item: PromptObject, spec: PromptSpec, width: int, height: int) -> PromptObject:
    """An object of the original image in pixels of the square that the policy sees."""
    return item.scaled(spec.image_size / width, spec.image_size / height)
