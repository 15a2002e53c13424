"""Question and image to chat messages: the one prompt and the one place that resizes.

Training, evaluation and inference all build their prompts here, so a policy is always asked as it was
trained. The settings that decide a prompt travel with a checkpoint in the file
``seg_zero.json`` beside the weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.answer import Answer, parse_answer
from seg_zero.errors import InputError
from seg_zero.files import read_json, write_json
from seg_zero.objects import PromptObject

SPEC_FILE = "seg_zero.json"

_SINGLE_EXAMPLE = '{"bbox": [10,100,200,210], "points_1": [30,110], "points_2": [35,180]}'
# Asks for names in the place of boxes; seg_zero.answer.read_names reads the answer.
NAMES_WORDING = (
    'Look at the picture and think about "{question}". Write your thoughts in <think> </think>, then the names of the '
    "kinds of things that answer it, short and common words, as a JSON list in <answer> </answer>: <think> thoughts "
    '</think><answer>["first kind", "second kind"]</answer>. An empty list means that nothing does.'
)
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


NORMALISATIONS: dict[str, Callable[[str], str]] = {
    # Lower case, single spaces, no final full stop, comma or colon. Quotes, ? and ! mean something and stay.
    "plain": lambda question: " ".join(question.split()).lower().rstrip(" .,;:"),
    # As the published code of Seg-Zero and VisionReasoner prepares its training questions.
    "published": lambda question: question.lower().strip("."),
    "none": lambda question: question,
}

_CONTROL_TOKEN = re.compile(r"<\|[a-z_0-9]+\|>")  # as all supported tokenizers write them

PICTURE_TOKENS = 8  # along a side of a further picture, at most
THOUSAND = 1000.0  # the side of every image in coordinates that do not depend on its size
COORDINATES = ("pixels", "thousand")
RESIZES = ("area", "bilinear")


@dataclass(frozen=True)
class PromptSpec:
    """The settings that decide a prompt and the meaning of its answer; saved with the checkpoint.

    template: a key of :data:`TEMPLATES`; with ``text``, the answer format alone: "single" or "multi".
    image_size: side in pixels of the square that every image is stretched to (aspect not kept, as in
        the published data). A multiple of ``token_pixels``, so that the processor does not resize once more.
    coordinates: "pixels": answers are in pixels of that square; "thousand": in thousandths of its side.
    token_pixels: side in pixels of the square that becomes one image token.
    training_resize, answering_resize: how images are resized, one of :data:`RESIZES`; by default as for the published
        models: areas are averaged for training, and images are interpolated for answers.
    text: a wording of its own with ``{question}`` in the place of the question; None: that of ``template``.
    newline: whether a newline stands between image and text.
    normalisation: what is done to a question, a key of :data:`NORMALISATIONS`.
    """

    template: str = "multi"
    image_size: int = 840
    coordinates: str = "pixels"
    token_pixels: int = 28
    training_resize: str = "area"
    answering_resize: str = "bilinear"
    text: str | None = None
    newline: bool = False
    normalisation: str = "plain"

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise InputError(f"unknown prompt template {self.template!r}; choose one of {sorted(TEMPLATES)}")
        if self.text is not None:
            _check_wording(self.text, self.template)
        if not isinstance(self.newline, bool):
            raise InputError(f"newline {self.newline!r} is not true or false; it says whether one follows the image")
        if self.normalisation not in NORMALISATIONS:
            raise InputError(f"unknown normalisation {self.normalisation!r}; choose one of {', '.join(NORMALISATIONS)}")
        if self.coordinates not in COORDINATES:
            raise InputError(f"unknown coordinates {self.coordinates!r}; choose one of {', '.join(COORDINATES)}")
        for name in ("training_resize", "answering_resize"):
            if getattr(self, name) not in RESIZES:
                raise InputError(f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(RESIZES)}")
        side, token = self.image_size, self.token_pixels
        if not isinstance(token, int) or token < 1:
            raise InputError(
                f"token_pixels {token!r} is not a number of pixels; give patch size times merge size, such as 28"
            )
        if not isinstance(side, int) or not token <= side <= 128 * token or side % token:
            raise InputError(
                f"image_size {side} is not a multiple of {token} within {token}..{128 * token} pixels; "
                f"try {max(1, round(840 / token)) * token}"
            )

    def in_words_of(self, template: str) -> PromptSpec:
        """These settings with the wording of a key of :data:`TEMPLATES` in place of their own."""
        return replace(self, template=template, text=None, newline=False, normalisation="plain")

    @property
    def answer_side(self) -> float:
        """Width and height of the whole image in the coordinates of answers."""
        return THOUSAND if self.coordinates == "thousand" else float(self.image_size)

    @property
    def image_tokens(self) -> int:
        return (self.image_size // self.token_pixels) ** 2

    @property
    def picture_side(self) -> int:
        """Side in pixels of a further, smaller picture beside the image: at most half as large as the image."""
        return min(PICTURE_TOKENS, max(1, self.image_size // self.token_pixels // 2)) * self.token_pixels

    @property
    def picture_tokens(self) -> int:
        """Image tokens of a further picture."""
        return (self.picture_side // self.token_pixels) ** 2

    @property
    def multi(self) -> bool:
        return self.template != "single"

    def save(self, folder: Path) -> None:
        write_json(Path(folder) / SPEC_FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> PromptSpec | None:
        """The spec saved in a model folder, or None if it has none (e.g. a hub checkpoint)."""
        path = Path(folder) / SPEC_FILE
        if not path.is_file():
            return None
        try:
            return cls(**_read_keys(path, cls))
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"cannot read {path}: {error}. Delete it to use the defaults") from error


@dataclass(frozen=True)
class PromptTemplate:
    """A wording that is not among :data:`TEMPLATES`, and what belongs to it; kept in a JSON file with these keys.

    format: of answers, "single" or "multi". image_size, coordinates: None leaves those of the model. The rest as in
    :class:`PromptSpec`. Raises InputError for values that cannot be used.
    """

    text: str
    format: str
    newline: bool = False
    normalisation: str = "plain"
    image_size: int | None = None
    coordinates: str | None = None

    def __post_init__(self) -> None:
        for name in ("format", "normalisation"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name} {getattr(self, name)!r} is not a text; docs/prompts.md lists the values")
        if self.format not in ("single", "multi"):
            raise InputError(f"format {self.format!r} is neither single nor multi; choose one of them")
        coordinates = "pixels" if self.coordinates is None else self.coordinates
        PromptSpec(
            self.format,
            coordinates=coordinates,
            text=self.text,
            newline=self.newline,
            normalisation=self.normalisation,
        )
        if self.image_size is not None and (type(self.image_size) is not int or self.image_size < 1):
            raise InputError(f"image_size {self.image_size!r} is not a number of pixels; give one such as 840")

    def applied_to(self, spec: PromptSpec) -> PromptSpec:
        """The settings of a model, asked in these words."""
        return replace(
            spec,
            template=self.format,
            text=self.text,
            newline=self.newline,
            normalisation=self.normalisation,
            image_size=spec.image_size if self.image_size is None else self.image_size,
            coordinates=spec.coordinates if self.coordinates is None else self.coordinates,
        )

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path | str) -> PromptTemplate:
        """Raises InputError for a file that is no template."""
        try:
            return cls(**_read_keys(Path(path), cls))
        except OSError as error:
            raise InputError(
                f"prompt template {Path(path)} cannot be read ({error.strerror}); check the path"
            ) from error
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(
                f"prompt template {Path(path)} cannot be used: {error}. `seg-zero prompt import` writes such files"
            ) from error


def _read_keys(path: Path, kind: type[PromptSpec] | type[PromptTemplate]) -> dict[str, Any]:
    """The object in a JSON file, whose keys are fields of ``kind``. Raises ValueError."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    known = {one.name: one for one in fields(kind)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"unknown keys {unknown}; there are {', '.join(known)}")
    missing = [name for name, one in known.items() if one.default is MISSING and name not in values]
    if missing:
        raise ValueError(f"{missing[0]!r} is missing")
    return values


def _check_wording(text: object, answer_format: str) -> None:
    if not isinstance(text, str) or "{question}" not in text:
        raise InputError("the text of the prompt has no {question}; write it where the question belongs")
    if answer_format not in ("single", "multi"):
        raise InputError(f"format {answer_format!r} of a prompt with a text of its own must be single or multi")
    token = _CONTROL_TOKEN.search(text) or re.search("<image>", text)
    if token is not None:
        raise InputError(f"the text of the prompt holds the control token {token[0]!r}; the image is put before it")
    check_characters(text, "the text of the prompt")


def check_characters(text: str, what: str) -> None:
    """Raises InputError, which begins with ``what``, for a text that no file can hold: half of a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{what} holds half a character ({error.reason}); write it as UTF-8") from error


def check_question(question: str) -> None:
    """Check that a question can be asked, before any costly work.

    Raises InputError for a question without words, with a control token, which would count as an image or a turn, or
    with half a character, which no tokenizer and no file takes.
    """
    check_characters(question, "the question")
    if not "".join(question.split()).strip(".!?,;:\"'"):
        raise InputError(f"the question {question!r} is empty; describe what to segment")
    token = _CONTROL_TOKEN.search(question.lower())
    if token is not None:
        raise InputError(f"the question holds the control token {token[0]!r}; remove it")


def normalise_question(question: str, rule: str = "plain") -> str:
    """The question as prompts hold it, by a rule of :data:`NORMALISATIONS`; raises as :func:`check_question`."""
    check_question(question)
    return NORMALISATIONS[rule](question)


def prompt_text(question: str, spec: PromptSpec, context: str = "") -> str:
    """The text of the prompt, which follows the image; raises as :func:`check_question`.

    context: what was said earlier, on a line of its own before the instructions.
    """
    words = TEMPLATES[spec.template] if spec.text is None else spec.text
    words = words.replace("{question}", normalise_question(question, spec.normalisation))
    if not context:
        return "\n" * spec.newline + words
    token = _CONTROL_TOKEN.search(context.lower())
    if token is not None:
        raise InputError(f"the context of the question holds the control token {token[0]!r}; remove it")
    return "\n" * spec.newline + f"{context}\n{words}"


def build_messages(
    question: str,
    spec: PromptSpec,
    image: Image.Image | None = None,
    *,
    context: str = "",
    pictures: Sequence[Image.Image] = (),
) -> list[dict[str, Any]]:
    """Chat messages of one question: a user turn with the image, further pictures, then the text.

    Without ``image`` the image entry is a bare placeholder, which is what chat templates need. ``context``: see
    :func:`prompt_text`.
    """
    entry: dict[str, Any] = {"type": "image"} if image is None else {"type": "image", "image": image}
    further = [{"type": "image", "image": picture} for picture in pictures]
    text = {"type": "text", "text": prompt_text(question, spec, context)}
    return [{"role": "user", "content": [entry, *further, text]}]


def resize_for_policy(image: Image.Image, spec: PromptSpec, use: str = "answering") -> Image.Image:
    """The RGB image stretched to ``spec.image_size`` squared, as the policy sees it.

    use: "training" or "answering", of which the spec tells the rule: "area" (each pixel is the mean of the area it
    covers, as OpenCV's INTER_AREA computes it) or "bilinear" (Pillow's).
    """
    side = spec.image_size
    if image.size == (side, side):
        return image
    if {"training": spec.training_resize, "answering": spec.answering_resize}[use] == "bilinear":
        return image.resize((side, side), Image.Resampling.BILINEAR)
    import cv2  # takes longer to import than the rest of this module

    return Image.fromarray(cv2.resize(np.asarray(image), (side, side), interpolation=cv2.INTER_AREA))


def resize_picture(picture: Image.Image, spec: PromptSpec) -> Image.Image:
    """A further RGB picture stretched to ``spec.picture_side`` squared, as the policy sees it."""
    side = spec.picture_side
    return picture if picture.size == (side, side) else picture.resize((side, side), Image.Resampling.BILINEAR)


def to_image_pixels(item: PromptObject, spec: PromptSpec, width: int, height: int) -> PromptObject:
    """A policy's object, in the coordinates of its answers, in pixels of the original ``width`` x ``height`` image."""
    return item.scaled(width / spec.answer_side, height / spec.answer_side)


def to_policy_pixels(item: PromptObject, spec: PromptSpec, width: int, height: int) -> PromptObject:
    """An object of the original image in the coordinates of a policy's answers."""
    return item.scaled(spec.answer_side / width, spec.answer_side / height)


def read_objects(text: str, spec: PromptSpec, size: tuple[int, int]) -> tuple[Answer, tuple[PromptObject, ...]]:
    """A policy's text and its objects in pixels of an image of (width, height); never raises on the text."""
    answer = parse_answer(text)
    return answer, tuple(to_image_pixels(item, spec, *size) for item in answer.objects)
