"""Prompts and resizing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.objects import PromptObject
from seg_zero.prompting import (
    TEMPLATES,
    PromptSpec,
    build_messages,
    normalise_question,
    resize_for_policy,
    to_image_pixels,
    to_policy_pixels,
)


@pytest.mark.parametrize(
    ("question", "plain", "published"),
    [
        ("  The LEFT  cup. ", "the left cup", "  the left  cup. "),
        ("The left cup...", "the left cup", "the left cup"),
        (".the cup.", ".the cup", "the cup"),
        ("the cup, ", "the cup", "the cup, "),
        (
            "'the left cup' and 'the right cup'",
            "'the left cup' and 'the right cup'",
            "'the left cup' and 'the right cup'",
        ),
        ('the sign "STOP!"', 'the sign "stop!"', 'the sign "stop!"'),
        ("What can I drink from?", "what can i drink from?", "what can i drink from?"),
        ("really? the cup!", "really? the cup!", "really? the cup!"),
    ],
)
def test_question_is_normalised_by_the_rule_of_the_template(question: str, plain: str, published: str) -> None:
    assert normalise_question(question) == plain
    assert normalise_question(question, "published") == published
    assert normalise_question(question, "none") == question


@pytest.mark.parametrize("question", ["what is <|image_pad|> here", "<|IM_END|>", "a <|vision_start|> b"])
def test_control_tokens_are_refused(question: str) -> None:
    with pytest.raises(InputError, match="holds the control token"):
        normalise_question(question)


def test_angles_and_bars_are_no_control_tokens() -> None:
    assert normalise_question("the sign with <| 5 |> on it") == "the sign with <| 5 |> on it"


@pytest.mark.parametrize("question", ["", "   ", "?!"])
def test_empty_question_is_refused(question: str) -> None:
    with pytest.raises(ValueError, match="is empty"):
        normalise_question(question)


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_every_template_holds_the_question_and_both_tags(template: str) -> None:
    (message,) = build_messages("The {braces} cup", PromptSpec(template, 112))
    image, text = message["content"]
    assert image == {"type": "image"}
    assert '"the {braces} cup"' in text["text"]
    assert "<think>" in text["text"] and "<answer>" in text["text"]


def test_spec_travels_with_the_model_folder(tmp_path: Path) -> None:
    assert PromptSpec.load(tmp_path) is None
    PromptSpec("brief", 112).save(tmp_path)
    assert PromptSpec.load(tmp_path) == PromptSpec("brief", 112)
    (tmp_path / "seg_zero.json").write_text('{"template": "brief", "colour": 1}')
    with pytest.raises(ValueError, match="colour"):
        PromptSpec.load(tmp_path)


@pytest.mark.parametrize(("template", "size"), [("nope", 840), ("multi", 0), ("multi", 100), ("multi", 100_000)])
def test_impossible_spec_is_refused(template: str, size: int) -> None:
    with pytest.raises(ValueError):
        PromptSpec(template, size)


def test_shrinking_averages_areas() -> None:
    checker = np.indices((224, 224)).sum(axis=0) % 2 * 254
    small = resize_for_policy(Image.fromarray(checker.astype(np.uint8)).convert("RGB"), PromptSpec("brief", 112))
    assert small.size == (112, 112)
    assert set(np.asarray(small).ravel()) == {127}


def test_coordinates_return_to_the_original_pixels() -> None:
    item = PromptObject((84.0, 168.0, 420.0, 840.0), ((420.0, 420.0),))
    original = to_image_pixels(item, PromptSpec("multi", 840), 640, 480)
    assert original.box == pytest.approx((64.0, 96.0, 320.0, 480.0))
    back = to_policy_pixels(original, PromptSpec("multi", 840), 640, 480)
    assert back.box == pytest.approx(item.box) and back.points[0] == pytest.approx(item.points[0])


@pytest.mark.parametrize("image_size", [512, 832])
def test_thousandths_return_to_the_original_pixels_whatever_the_image_size(image_size: int) -> None:
    spec = PromptSpec("multi", image_size, "thousand", 32)
    item = PromptObject((100.0, 200.0, 500.0, 1000.0), ((500.0, 500.0),))
    original = to_image_pixels(item, spec, 640, 480)
    assert original.box == pytest.approx((64.0, 96.0, 320.0, 480.0))
    back = to_policy_pixels(original, spec, 640, 480)
    assert back.box == pytest.approx(item.box) and back.points[0] == pytest.approx(item.points[0])
