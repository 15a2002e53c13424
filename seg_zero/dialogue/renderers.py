"""How earlier masks re-enter: as text, as crops, as numbered outlines, or as SAM2's own mask prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from seg_zero.answer import write_solution_multi
from seg_zero.dialogue.memory import GIVEN, Instance
from seg_zero.dialogue.references import HIERARCHICAL, Asked
from seg_zero.errors import InputError
from seg_zero.masks import mask_bounds
from seg_zero.objects import Box, PromptObject, box_iou
from seg_zero.prompting import PromptSpec, to_policy_pixels
from seg_zero.visualize import overlay

WAYS = ("text", "crop", "marks", "mask")
CARRIES = ("all", "references")
MAX_CROPS = 4  # pictures beside the image
SAME_IOU = 0.7  # of boxes: above, an answer's object is taken for the one referred to
_LONGEST_NAME = 120  # characters of an earlier question in the prompt

AsPrompt = Callable[[np.ndarray], np.ndarray]  # makes SAM2's h x w logits of a boolean mask


@dataclass(frozen=True)
class Rendered:
    """What the policy gets: the context before the question, the image in its place, further pictures."""

    context: str
    image: Image.Image
    pictures: tuple[Image.Image, ...] = ()


class ReferenceRenderer:
    """One way for earlier masks to re-enter a conversation; this one, ``text``, is the base of the others.

    Box and point of each object are text, in the coordinates and the JSON of answers. carry: ``all`` lists every
    earlier round, ``references`` those that the question refers to.
    """

    def __init__(self, carry: str = "all") -> None:
        if carry not in CARRIES:
            raise InputError(f"carry {carry!r} is not known; choose one of {', '.join(CARRIES)}")
        self.carry = carry

    def render(self, image: Image.Image, instances: Sequence[Instance], asked: Asked, spec: PromptSpec) -> Rendered:
        """The prompt's part of the history. instances: the earlier rounds and what was given with the question."""
        return Rendered(_joined(self._sentences(instances, asked, spec, image.size)), image)

    def mask_prompts(
        self, objects: Sequence[PromptObject], instances: Sequence[Instance], asked: Asked, as_prompt: AsPrompt
    ) -> list[np.ndarray | None] | None:
        """For each object of the answer, in pixels of the image, an earlier mask of it as SAM2's prompt, or None."""
        return None

    def combine(self, masks: np.ndarray, instances: Sequence[Instance], asked: Asked) -> np.ndarray:
        """The masks that count (boolean N x H x W), from those that SAM2 made."""
        return masks

    def _listed(self, instances: Sequence[Instance], asked: Asked) -> Sequence[Instance]:
        return instances if self.carry == "all" else referred_to(instances, asked)

    def _sentences(
        self, instances: Sequence[Instance], asked: Asked, spec: PromptSpec, size: tuple[int, int]
    ) -> list[str]:
        referred = referred_to(instances, asked)
        listed = self._listed(instances, asked)
        earlier = [f"{_label(item)}: {_where(item, spec, size)}" for item in listed if item.number != GIVEN]
        given = [f"Region 0, given by the user: {_where(item, spec, size)}" for item in listed if item.number == GIVEN]
        about = " and ".join(_name(item) for item in referred)
        sentences = [f"Earlier answers: {'; '.join(earlier)}"] if earlier else []
        return [*sentences, *given, *([f"The question refers to {about}"] if about else [])]


class CropReferences(ReferenceRenderer):
    """As text, and each object referred to as a small picture: black elsewhere, cropped to its box, in a square."""

    def render(self, image: Image.Image, instances: Sequence[Instance], asked: Asked, spec: PromptSpec) -> Rendered:
        shown = [item for item in referred_to(instances, asked) if item.found]
        if len(shown) > MAX_CROPS:
            raise InputError(f"the question refers to {len(shown)} objects, more than the {MAX_CROPS} that are shown")
        sentences = self._sentences(instances, asked, spec, image.size)
        if shown:
            names = ", ".join(_name(item) for item in shown)
            sentences.append(f"The small picture{'s show' if len(shown) > 1 else ' shows'} {names} alone")
        return Rendered(_joined(sentences), image, tuple(masked_crop(image, item.mask) for item in shown))


class MarkReferences(ReferenceRenderer):
    """As text, and the policy sees a copy of the image with numbered outlines (set-of-mark)."""

    def render(self, image: Image.Image, instances: Sequence[Instance], asked: Asked, spec: PromptSpec) -> Rendered:
        marked = [item for item in self._listed(instances, asked) if item.found]
        sentences = self._sentences(instances, asked, spec, image.size)
        if not marked:
            return Rendered(_joined(sentences), image)
        sentences.append("Numbered outlines in the image mark these objects")
        masks = np.stack([item.mask for item in marked])
        picture = overlay(image, masks, dimmed=0.0, numbers=[item.number for item in marked])
        return Rendered(_joined(sentences), picture)


class MaskReferences(ReferenceRenderer):
    """As text, and on SAM2's side: an object that is one referred to starts from its earlier mask, parts are cut to
    their wholes, and "excluding instance k" takes its pixels away."""

    def mask_prompts(
        self, objects: Sequence[PromptObject], instances: Sequence[Instance], asked: Asked, as_prompt: AsPrompt
    ) -> list[np.ndarray | None] | None:
        excluded, parents = set(asked.excluded), set(asked.parents)
        known: list[tuple[Box, Instance, int]] = [
            (mask_bounds(mask), item, place)
            for item in referred_to(instances, asked)
            if item.number not in excluded | parents
            for place, mask in enumerate(item.masks)
        ]

        def earlier(box: Box | None) -> np.ndarray | None:
            overlaps = [0.0 if box is None else box_iou(box, bounds) for bounds, _, _ in known]
            if not overlaps or max(overlaps) < SAME_IOU:
                return None
            _, item, place = known[overlaps.index(max(overlaps))]
            return as_prompt(item.masks[place]) if item.low_res is None else item.low_res[place]

        return [earlier(item.box) for item in objects]

    def combine(self, masks: np.ndarray, instances: Sequence[Instance], asked: Asked) -> np.ndarray:
        parents = {*asked.parents, *([GIVEN] if asked.relation == HIERARCHICAL else [])}
        wholes = [item.mask for item in instances if item.number in parents and item.found]
        taken = [item.mask for item in instances if item.number in asked.excluded]
        if wholes:
            masks = masks & np.any(wholes, axis=0)
        return masks & ~np.any(taken, axis=0) if taken else masks


_RENDERERS: dict[str, type[ReferenceRenderer]] = {
    "text": ReferenceRenderer,
    "crop": CropReferences,
    "marks": MarkReferences,
    "mask": MaskReferences,
}


def renderer_for(way: str = "text", carry: str = "all") -> ReferenceRenderer:
    """The renderer of a configuration, of WAYS and CARRIES. Raises InputError for others."""
    if way not in _RENDERERS:
        raise InputError(f"references {way!r} are not known; choose one of {', '.join(WAYS)}")
    return _RENDERERS[way](carry)


def referred_to(instances: Sequence[Instance], asked: Asked) -> list[Instance]:
    """The instances that a question refers to: rounds that it names, and regions given with it."""
    return [item for item in instances if item.number == GIVEN or item.number in asked.references]


def masked_crop(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """The pixels of a mask (boolean H x W, not empty) in the upper left corner of a black square, as SegLLM encodes a
    mask: black outside the mask, cropped to its box, the side that of the longer edge."""
    x1, y1, x2, y2 = (int(value) for value in mask_bounds(mask))
    pixels = np.where(mask[..., None], np.asarray(image), 0).astype(np.uint8)[y1:y2, x1:x2]
    side = max(pixels.shape[:2])
    square = np.zeros((side, side, 3), dtype=np.uint8)
    square[: pixels.shape[0], : pixels.shape[1]] = pixels
    return Image.fromarray(square)


def _where(item: Instance, spec: PromptSpec, size: tuple[int, int]) -> str:
    if not item.found:
        return "nothing was found"
    return write_solution_multi([to_policy_pixels(prompt, spec, *size) for prompt in item.prompts])


def _name(item: Instance) -> str:
    return "region 0" if item.number == GIVEN else f"instance {item.number}"


def _label(item: Instance) -> str:
    name = " ".join(item.name.replace('"', "'").split())
    return f'instance {item.number}, "{name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"}"'


def _joined(sentences: Sequence[str]) -> str:
    return " ".join(f"{sentence}." for sentence in sentences)
