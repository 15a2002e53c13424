"""The four ways for an earlier mask to re-enter: what the policy and SAM2 get."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.answers import disc
from PIL import Image

from seg_zero.dialogue.memory import GIVEN, Instance
from seg_zero.dialogue.references import HIERARCHICAL, read_question
from seg_zero.dialogue.renderers import MAX_CROPS, WAYS, masked_crop, renderer_for
from seg_zero.errors import InputError
from seg_zero.objects import PromptObject, box_iou
from seg_zero.prompting import PromptSpec, build_messages

SIZE = (160, 120)
SPEC = PromptSpec("multi", 112)
IMAGE = Image.fromarray(np.random.default_rng(5).integers(30, 255, (120, 160, 3), dtype=np.uint8))
LEFT, RIGHT = disc(SIZE, (40, 60), 20), disc(SIZE, (120, 60), 12)
FIRST = Instance.of_mask(1, 'the "big" disc', LEFT)
NOTHING = Instance.of_mask(2, "the square", LEFT & False)
THIRD = Instance(3, "both discs", np.stack([LEFT, RIGHT]))
HISTORY = (FIRST, NOTHING, THIRD)


def test_text_names_each_round_with_boxes_in_the_policys_coordinates() -> None:
    made = renderer_for("text").render(IMAGE, HISTORY, read_question("its edge", (1,)), SPEC)
    assert made.image is IMAGE and made.pictures == ()
    first, second, third = made.context.removeprefix("Earlier answers: ").split("; ")
    assert first.startswith("instance 1, \"the 'big' disc\": ")
    (item,) = json.loads(first.split(": ", 1)[1])
    # x 21..59 of 160 and y 41..79 of 120, in a square of 112
    assert item["bbox_2d"] == [round(21 * 0.7), round(41 * 112 / 120), round(59 * 0.7), round(79 * 112 / 120)]
    assert item["point_2d"] == [28, 56]
    assert second == 'instance 2, "the square": nothing was found'
    assert len(json.loads(third.split(": ", 1)[1].split(". The")[0])) == 2
    assert made.context.endswith("The question refers to instance 1.")


def test_only_what_is_referred_to_is_listed_if_so_chosen() -> None:
    made = renderer_for("text", "references").render(IMAGE, HISTORY, read_question("beside instance 2"), SPEC)
    assert made.context == (
        'Earlier answers: instance 2, "the square": nothing was found. The question refers to instance 2.'
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_first_question_is_asked_as_without_a_dialogue(way: str) -> None:
    made = renderer_for(way).render(IMAGE, (), read_question("the cup"), SPEC)
    assert (made.context, made.pictures) == ("", ()) and made.image is IMAGE
    assert build_messages("the cup", SPEC, context=made.context) == build_messages("the cup", SPEC)


def test_a_region_given_by_the_user_is_region_zero() -> None:
    region = Instance(GIVEN, "", RIGHT[None])
    made = renderer_for("crop").render(IMAGE, (region,), read_question("beside it"), SPEC)
    assert made.context.startswith('Region 0, given by the user: [{"bbox_2d":')
    assert "refers to region 0. The small picture shows region 0 alone." in made.context
    assert len(made.pictures) == 1


def test_a_crop_holds_the_objects_pixels_in_the_corner_of_a_black_square() -> None:
    mask = np.zeros((120, 160), dtype=bool)
    mask[10:15, 20:28] = True
    mask[10, 20] = False
    crop = np.asarray(masked_crop(IMAGE, mask))
    assert crop.shape == (8, 8, 3)
    assert (crop[5:] == 0).all() and (crop[0, 0] == 0).all()
    assert np.array_equal(crop[1:5], np.asarray(IMAGE)[11:15, 20:28])


def test_crops_are_made_of_what_is_referred_to_and_found() -> None:
    made = renderer_for("crop").render(IMAGE, HISTORY, read_question("x", (1, 2, 3)), SPEC)
    assert [picture.size for picture in made.pictures] == [(39, 39), (111, 111)]
    assert made.context.endswith("The small pictures show instance 1, instance 3 alone.")
    many = [Instance.of_mask(number, "a", LEFT) for number in range(1, MAX_CROPS + 2)]
    with pytest.raises(InputError, match="refers to 5 objects, more than the 4"):
        renderer_for("crop").render(IMAGE, many, read_question("x", range(1, MAX_CROPS + 2)), SPEC)


def test_marks_are_drawn_on_a_copy_outside_the_masks() -> None:
    before = np.array(IMAGE)
    made = renderer_for("marks").render(IMAGE, (FIRST, NOTHING), read_question("x", (1,)), SPEC)
    assert np.array_equal(np.asarray(IMAGE), before)
    changed = (np.asarray(made.image) != before).any(axis=2)
    assert changed.any() and changed[disc(SIZE, (40, 60), 26)].sum() > 0.6 * changed.sum()
    assert not changed[disc(SIZE, (40, 66), 10)].any()
    assert made.context.endswith("Numbered outlines in the image mark these objects.")
    empty = renderer_for("marks").render(IMAGE, (NOTHING,), read_question("x"), SPEC)
    assert empty.image is IMAGE and "outlines" not in empty.context


def test_sam2_starts_from_the_earlier_mask_of_the_same_object() -> None:
    logits = np.full((1, 28, 28), 3.0, dtype=np.float32)
    known = Instance(1, "the disc", LEFT[None], logits)
    same, other = PromptObject((20.0, 40.0, 60.0, 81.0)), PromptObject((100.0, 40.0, 140.0, 80.0))
    mask, text = renderer_for("mask"), renderer_for("text")
    asked = read_question("the same, more exactly", (1,))
    prompts = mask.mask_prompts([same, other], (known,), asked, lambda mask: mask)
    assert prompts is not None and prompts[0] is not None and np.array_equal(prompts[0], logits[0])
    assert prompts[1] is None
    (made,) = mask.mask_prompts([same], (FIRST,), asked, lambda mask: mask * 2.0) or [None]
    assert made is not None and np.array_equal(made, LEFT * 2.0)
    assert mask.mask_prompts([same], (known,), read_question("the cup"), lambda mask: mask) == [None]
    assert text.mask_prompts([same], (known,), asked, lambda mask: mask) is None


@pytest.mark.parametrize(
    ("line", "relation", "expected"),
    [
        ("discs excluding instance 1", "", [LEFT & False, RIGHT]),
        ("the rim of instance 1", HIERARCHICAL, [LEFT, RIGHT & False]),
        ("the rim of instance 1", "relational", [LEFT, RIGHT]),
        ("what is inside instance 2", "", [LEFT, RIGHT]),  # instance 2 was not found, so it bounds nothing
    ],
)
def test_set_rules_cut_the_masks(line: str, relation: str, expected: list[np.ndarray]) -> None:
    masks = np.stack([LEFT, RIGHT])
    asked = read_question(line, relation=relation)
    assert np.array_equal(renderer_for("mask").combine(masks, HISTORY, asked), np.stack(expected))
    for way in ("text", "crop", "marks"):
        assert renderer_for(way).combine(masks, HISTORY, asked) is masks


def test_a_part_lies_in_the_region_that_the_user_gave() -> None:
    region = Instance(GIVEN, "", RIGHT[None])
    found = renderer_for("mask").combine((LEFT | RIGHT)[None], (region,), read_question("its rim", (), HIERARCHICAL))
    assert np.array_equal(found[0], RIGHT)


@pytest.mark.parametrize(
    ("one", "other", "iou"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((5, 5, 5, 5), (0, 0, 10, 10), 0.0),
    ],
)
def test_box_iou(one: tuple[float, ...], other: tuple[float, ...], iou: float) -> None:
    assert box_iou((*map(float, one),), (*map(float, other),)) == pytest.approx(iou)  # type: ignore[arg-type]


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(InputError, match="references 'boxes' are not known; choose one of text, crop, marks, mask"):
        renderer_for("boxes")
    with pytest.raises(InputError, match="carry 'some' is not known; choose one of all, references"):
        renderer_for("text", "some")
