"""Prompts and resizing."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.objects import PromptObject
from seg_zero.prompting import (
    TEMPLATES,
    PromptSpec,
    PromptTemplate,
    build_messages,
    normalise_question,
    resize_for_policy,
    resize_picture,
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


@pytest.mark.parametrize("question", ["the caf\udce9 circle", "\ud800", "\udfff?"])
def test_half_a_character_is_refused(question: str) -> None:
    with pytest.raises(InputError, match="the question holds half a character"):
        normalise_question(question)


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


def test_settings_of_earlier_versions_can_be_read(tmp_path: Path) -> None:
    old = {"template": "multi", "image_size": 832, "coordinates": "thousand", "token_pixels": 32}
    (tmp_path / "seg_zero.json").write_text(json.dumps(old))
    spec = PromptSpec.load(tmp_path)
    assert spec == PromptSpec("multi", 832, "thousand", 32)
    assert (spec.text, spec.newline, spec.normalisation, spec.training_resize, spec.answering_resize) == (
        *(None, False, "plain", "area", "bilinear"),
    )


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


SIZES = [
    *((841, 841), (839, 839), (1000, 900), (1680, 1680), (640, 480), (480, 640), (500, 375), (1333, 800)),
    *((4000, 3000), (100, 7), (2001, 1), (840, 1201)),
]


def _noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _area_weights(source: int, target: int) -> np.ndarray:
    """The fraction of each target pixel that each source pixel covers, target x source."""
    edges = np.arange(target + 1) * source / target
    low, high = edges[:-1, None], edges[1:, None]
    place = np.arange(source)[None]
    overlap = np.clip(np.minimum(high, place + 1) - np.maximum(low, place), 0, None)
    return overlap * target / source


@pytest.mark.parametrize("size", SIZES)
def test_training_resizes_as_opencv_averages_areas(size: tuple[int, int]) -> None:
    image, spec = _noise(*size), PromptSpec("multi", 840)
    found = np.asarray(resize_for_policy(image, spec, "training")).astype(int)
    expected = cv2.resize(np.asarray(image), (840, 840), interpolation=cv2.INTER_AREA)
    assert found.shape == (840, 840, 3) and np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("size", [(841, 841), (1000, 900), (1333, 1001), (1700, 1500), (640, 480)])
def test_training_resizes_by_true_area_averages(size: tuple[int, int]) -> None:
    """Where both sides shrink or both grow; where one shrinks and the other grows, OpenCV itself interpolates."""
    image, spec = _noise(*size), PromptSpec("multi", 840)
    width, height = size
    mean = np.tensordot(_area_weights(height, 840), np.asarray(image).astype(float), 1)
    mean = np.moveaxis(np.tensordot(_area_weights(width, 840), mean, (1, 1)), 0, 1)
    assert np.abs(np.asarray(resize_for_policy(image, spec, "training")) - mean).max() <= 1


@pytest.mark.parametrize("size", [(841, 841), (640, 480), (4000, 3000), (1333, 800)])
def test_answering_resizes_bilinearly_as_the_published_code_does(size: tuple[int, int]) -> None:
    image, spec = _noise(*size), PromptSpec("multi", 840)
    expected = image.resize((840, 840), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(resize_for_policy(image, spec)), np.asarray(expected))


def test_the_spec_decides_how_images_are_resized(tmp_path: Path) -> None:
    image, usual = _noise(150, 130), PromptSpec("brief", 112)
    swapped = PromptSpec("brief", 112, training_resize="bilinear", answering_resize="area")
    swapped.save(tmp_path)
    assert PromptSpec.load(tmp_path) == swapped
    assert resize_for_policy(image, swapped) == resize_for_policy(image, usual, "training")
    assert resize_for_policy(image, swapped, "training") == resize_for_policy(image, usual)
    with pytest.raises(InputError, match="unknown answering_resize 'cubic'; choose one of area, bilinear"):
        PromptSpec("brief", 112, answering_resize="cubic")


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = _noise(112, 112)
    assert resize_for_policy(image, PromptSpec("brief", 112), "training") is image


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


WORDS = "Point out '{question}', I mean '{question}'. <think>why</think><answer>{'bbox': [1,2,3,4]}</answer>"
OWN = PromptTemplate(WORDS, "single", newline=True, normalisation="published", image_size=560, coordinates="pixels")


def test_a_template_brings_its_wording_and_what_belongs_to_it() -> None:
    spec = OWN.applied_to(PromptSpec("multi", 840))
    assert (spec.image_size, spec.multi, spec.token_pixels) == (560, False, 28)
    (message,) = build_messages(" The 'red {cup}'?.", spec)
    words = WORDS.replace("{question}", " the 'red {cup}'?")
    assert message["content"] == [{"type": "image"}, {"type": "text", "text": "\n" + words}]
    plain = PromptTemplate(WORDS, "multi").applied_to(PromptSpec("single", 832, "thousand", 32))
    assert plain == PromptSpec("multi", 832, "thousand", 32, text=WORDS)
    assert build_messages(" The cup.", plain)[0]["content"][1]["text"] == WORDS.replace("{question}", "the cup")


def test_a_template_travels_with_the_model_folder(tmp_path: Path) -> None:
    spec = OWN.applied_to(PromptSpec())
    spec.save(tmp_path)
    assert PromptSpec.load(tmp_path) == spec
    saved = json.loads((tmp_path / "seg_zero.json").read_text())
    assert (saved["text"], saved["template"], saved["newline"], saved["normalisation"]) == (
        WORDS,
        "single",
        True,
        "published",
    )
    assert (saved["training_resize"], saved["answering_resize"]) == ("area", "bilinear")


def test_template_files_come_back_as_they_were_written(tmp_path: Path) -> None:
    OWN.write(tmp_path / "new" / "prompt.json")
    assert PromptTemplate.read(tmp_path / "new" / "prompt.json") == OWN
    (tmp_path / "short.json").write_text(json.dumps({"text": "où est {question}", "format": "multi"}), encoding="utf-8")
    assert PromptTemplate.read(tmp_path / "short.json") == PromptTemplate("où est {question}", "multi")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text": "find it", "format": "multi"}, "has no {question}"),
        ({"text": 5, "format": "multi"}, "has no {question}"),
        ({"format": "multi"}, "'text' is missing"),
        ({"text": "{question}"}, "'format' is missing"),
        ({"text": "{question}", "format": "brief"}, "format 'brief' is neither single nor multi"),
        ({"text": "{question}", "format": "many"}, "'many'"),
        ({"text": "{question}", "format": "multi", "newline": "yes"}, "newline 'yes' is not true or false"),
        ({"text": "{question}", "format": "multi", "normalisation": "upper"}, "unknown normalisation 'upper'"),
        ({"text": "{question}", "format": "multi", "coordinates": "inches"}, "unknown coordinates 'inches'"),
        ({"text": "{question}", "format": "multi", "image_size": "big"}, "image_size 'big'"),
        ({"text": "{question}", "format": "multi", "colour": 1}, "unknown keys \\['colour'\\]"),
        ({"text": "<image>{question}", "format": "multi"}, "control token '<image>'"),
        ({"text": "<|image_pad|>{question}", "format": "multi"}, "control token '<\\|image_pad\\|>'"),
        ({"text": "\ud800 {question}", "format": "multi"}, "half a character"),
        ({"text": "{question}", "format": ["multi"]}, r"format \['multi'\] is not a text"),
        ({"text": "{question}", "format": None}, "format None is not a text"),
        ({"text": "{question}", "format": "multi", "normalisation": ["plain"]}, "normalisation .* is not a text"),
        (["{question}"], "not a JSON object"),
    ],
)
def test_template_files_that_cannot_be_used_are_named(values: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "prompt.json"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=message) as error:
        PromptTemplate.read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_template_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json cannot be read \(No such file"):
        PromptTemplate.read(tmp_path / "none.json")
    (tmp_path / "prompt.txt").write_text("find {question}")
    with pytest.raises(InputError, match=r"prompt\.txt cannot be used"):
        PromptTemplate.read(tmp_path / "prompt.txt")
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match=r"deep\.json cannot be used"):
        PromptTemplate.read(tmp_path / "deep.json")
    with pytest.raises(InputError, match=r"prompt template \. cannot be read"):
        PromptTemplate.read("")
    (tmp_path / "mark.json").write_text(json.dumps({"text": "{question}", "format": "multi"}), encoding="utf-8-sig")
    assert PromptTemplate.read(tmp_path / "mark.json").format == "multi"
    (tmp_path / "latin.json").write_bytes(b'{"text": "\xe9"}')
    with pytest.raises(InputError, match=r"latin\.json cannot be used"):
        PromptTemplate.read(tmp_path / "latin.json")


def test_a_context_stands_before_the_instructions_and_changes_nothing_else() -> None:
    spec, picture = PromptSpec("multi", 112, newline=True, text="Find {question}."), Image.new("RGB", (56, 56))
    plain = build_messages("the cup", spec)[0]["content"]
    (message,) = build_messages("the cup", spec, context="Earlier answers: none.", pictures=[picture])
    image, further, text = message["content"]
    assert [image, {"type": "text", "text": "\nFind the cup."}] == plain
    assert further == {"type": "image", "image": picture}
    assert text["text"] == "\nEarlier answers: none.\nFind the cup."
    with pytest.raises(InputError, match="context of the question holds the control token"):
        build_messages("the cup", spec, context="a <|IM_end|> b")


@pytest.mark.parametrize(
    ("size", "token", "side", "tokens"), [(840, 28, 224, 64), (112, 28, 56, 4), (28, 28, 28, 1), (832, 32, 256, 64)]
)
def test_further_pictures_are_small(size: int, token: int, side: int, tokens: int) -> None:
    spec = PromptSpec("multi", size, token_pixels=token)
    assert (spec.picture_side, spec.picture_tokens) == (side, tokens)
    assert resize_picture(Image.new("RGB", (99, 33)), spec).size == (side, side)
