"""A round of a dialogue as the policy gets it and as the reward sees it; the same as in inference and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.answer import write_solution_multi
from seg_zero.data.augmentation import whole
from seg_zero.data.ground_truth import ground_truth
from seg_zero.data.rows import Row
from seg_zero.dialogue.data.records import TrueRound
from seg_zero.dialogue.memory import GIVEN, Instance
from seg_zero.dialogue.renderers import ReferenceRenderer, Rendered, referred_to
from seg_zero.masks import decode_mask, mask_to_prompt_object
from seg_zero.objects import Box
from seg_zero.prompting import PromptSpec, build_messages, resize_for_policy, resize_picture, to_policy_pixels
from seg_zero.training.dialogue.scripts import Script


@dataclass(frozen=True)
class RoundPrompt:
    """What a renderer made of a round. referred: boxes of the objects referred to, as the prompt writes them."""

    question: str
    rendered: Rendered
    referred: tuple[Box, ...]

    def messages(self, spec: PromptSpec, use: str) -> list[dict[str, Any]]:
        """Chat messages with the images, each in its size. use: see :func:`resize_for_policy`."""
        made = self.rendered
        image = resize_for_policy(made.image, spec, use)
        pictures = [resize_picture(one, spec) for one in made.pictures]
        return build_messages(self.question, spec, image, context=made.context, pictures=pictures)


def history(script: Script, number: int, earlier: Sequence[Instance]) -> tuple[Instance, ...]:
    """What round ``number`` (from 1) can refer to: earlier rounds, and the regions that the user gives with it."""
    given = script.dialogue.rounds[number - 1].given
    if not given:
        return tuple(earlier)
    return (*earlier, Instance(GIVEN, "", np.stack([decode_mask(rle) for rle in given])))


def true_instance(one: TrueRound, number: int) -> Instance:
    """A round's true mask in the place of its answer."""
    return Instance.of_mask(number, one.asked.question, one.truth())


def round_prompt(
    one: TrueRound, picture: Image.Image, instances: Sequence[Instance], renderer: ReferenceRenderer, spec: PromptSpec
) -> RoundPrompt:
    """The prompt of a round whose history is ``instances`` (:func:`history`)."""
    rendered = renderer.render(picture, instances, one.asked, spec)
    prompts = [prompt for item in referred_to(instances, one.asked) for prompt in item.prompts]
    boxes = [to_policy_pixels(prompt, spec, *picture.size).box for prompt in prompts]
    return RoundPrompt(one.asked.question, rendered, tuple(box for box in boxes if box is not None))


def round_truth(one: TrueRound, spec: PromptSpec) -> str:
    """The true object in the coordinates of answers and the format of the template; ``[]`` for an empty mask."""
    mask = one.truth()
    height, width = mask.shape
    objects = [to_policy_pixels(mask_to_prompt_object(mask), spec, width, height)] if mask.any() else []
    return ground_truth(objects, spec)


def round_info(
    script: Script, number: int, prompt: RoundPrompt, spec: PromptSpec, way: str, held_out: bool
) -> dict[str, Any]:
    """What the reward reads of a round (``extra_info``): the keys of a row's, and those of a round's."""
    item, one = script.dialogue, script.dialogue.rounds[number - 1]
    return {
        "id": f"{item.id}-{number}",
        "question": one.asked.question,
        "kind": (one.rule or {}).get("relation") or one.asked.relation,
        "image_size": (spec.answer_side, spec.answer_side),
        "source": script.source,
        "row": script.row,
        "view": {"window": list(whole((item.width, item.height)).window), "flipped": False},
        "mask": one.mask,
        "held_out": held_out,
        "round": number,
        "image": str(item.image),
        "references": list(one.asked.references),
        "relation": one.asked.relation,
        "way": way,
        "referred": [list(box) for box in prompt.referred],
    }


def round_row(script: Script, number: int) -> Row:
    """A round as a row of its own, without its history, to be drawn."""
    item, one = script.dialogue, script.dialogue.rounds[number - 1]
    mask = one.truth()
    objects = [mask_to_prompt_object(mask)] if mask.any() else []
    return Row(
        f"{item.id}-{number}",
        one.asked.question,
        write_solution_multi(objects),
        item.image.read_bytes(),
        item.height,
        item.width,
        one.mask,
        one.asked.relation,
    )
