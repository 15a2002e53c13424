"""The table of model families."""

from __future__ import annotations

from pathlib import Path

import pytest

from seg_zero.errors import InputError
from seg_zero.policy.families import (
    FAMILIES,
    family_by_hub_name,
    format_by_name,
    is_published,
    spec_of_family,
    spec_of_stored_images,
)
from seg_zero.prompting import PromptSpec


@pytest.mark.parametrize(
    ("family", "side", "tokens", "answer_side"),
    [
        ("qwen2_vl", 840, 900, 840.0),
        ("qwen2_5_vl", 112, 16, 112.0),
        ("qwen3_vl", 832, 676, 1000.0),
        ("glm4v", 840, 900, 1000.0),
    ],
)
def test_token_size_and_coordinates_follow_the_family(family: str, side: int, tokens: int, answer_side: float) -> None:
    spec = spec_of_family("multi", side, family)
    assert (spec.image_tokens, spec.answer_side) == (tokens, answer_side)
    pixels = spec_of_family("multi", side, family, coordinates="pixels")
    assert pixels.answer_side == side and pixels.token_pixels == spec.token_pixels


def test_image_sizes_between_tokens_are_refused_by_family() -> None:
    with pytest.raises(InputError, match=r"image_size 840 is not a multiple of 32 .*try 832"):
        spec_of_family("multi", 840, "qwen3_vl")
    with pytest.raises(InputError, match="image_size 832 is not a multiple of 28"):
        spec_of_family("multi", 832, "qwen2_vl")
    with pytest.raises(InputError, match="'llava' is not supported; choose one of " + ", ".join(FAMILIES)):
        spec_of_family("multi", 840, "llava")
    with pytest.raises(InputError, match="unknown coordinates 'percent'"):
        spec_of_family("multi", 840, coordinates="percent")


def test_settings_saved_before_there_were_families_mean_qwen2_5_vl(tmp_path: Path) -> None:
    (tmp_path / "seg_zero.json").write_text('{"template": "brief", "image_size": 112}')
    assert PromptSpec.load(tmp_path) == spec_of_family("brief", 112, "qwen2_5_vl")


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("Qwen/Qwen2-VL-2B-Instruct", "qwen2_vl"),
        ("somebody/tuned-qwen2.5-vl-3b", "qwen2_5_vl"),
        ("Qwen/Qwen3-VL-4B-Instruct", "qwen3_vl"),
        ("zai-org/GLM-4.1V-9B-Thinking", "glm4v"),
        ("Ricky06662/VisionReasoner-7B", None),
    ],
)
def test_names_of_published_models_tell_the_family(model: str, family: str | None) -> None:
    assert family_by_hub_name(model) == family


@pytest.mark.parametrize(
    ("model", "expected", "published"),
    [
        ("Ricky06662/Seg-Zero-7B", "single", True),
        ("Ricky06662/Seg-Zero-3B-Best-on-ReasonSegTest", "single", True),
        ("Ricky06662/VisionReasoner-7B", "multi", True),
        ("/x/Seg-Zero/pretrained_models/VisionReasoner-7B", "multi", True),
        ("/x/VisionReasoner/pretrained_models/Seg-Zero-7B/", "single", True),
        ("pretrained_models/seg_zero_3b", "single", True),
        ("/c/hub/models--Ricky06662--VisionReasoner-7B/snapshots/0a1b", "multi", True),
        ("me/my-seg-zero-3b", "single", False),
        ("/x/Seg-Zero", "single", False),
        ("/x/Seg-Zero-7B/outputs/merged", None, False),
        ("Seg-Zero-7B/Qwen2.5-VL-7B-Instruct", None, False),
        ("/x/Seg-Zero/Qwen2.5-VL-7B-Instruct", None, False),
    ],
)
def test_the_last_part_of_a_name_tells_the_published_format(model: str, expected: str | None, published: bool) -> None:
    assert (format_by_name(model), is_published(model)) == (expected, published)


def test_folders_above_a_model_say_nothing_about_its_family() -> None:
    assert family_by_hub_name("/models/qwen2-vl/Qwen3-VL-4B-Instruct") == "qwen3_vl"
    assert family_by_hub_name("/models/qwen2-vl/mine") is None


def test_the_default_prompt_settings_are_those_of_the_default_family() -> None:
    assert PromptSpec() == spec_of_family("multi", 840)


@pytest.mark.parametrize(("side", "token"), [(840, 28), (832, 32), (56, 28), (64, 32)])
def test_datasets_are_stored_at_the_image_sizes_of_all_families(side: int, token: int) -> None:
    assert spec_of_stored_images(side) == PromptSpec("multi", side, "pixels", token)


def test_image_sizes_that_suit_no_family_are_refused_for_datasets() -> None:
    with pytest.raises(InputError, match=r"image_size 850 is a multiple of none of 28, 32, .*try 840 or 832"):
        spec_of_stored_images(850)
