"""Template sets and the canonical form of texts."""

from __future__ import annotations

import open_clip
import pytest
from helpers.golden import load_golden

from seg_zero.encoders.templates import TEMPLATES, canonical, templates_named
from seg_zero.errors import InputError


def test_canonical_texts_meet_the_published_values() -> None:
    data = load_golden("open_vocabulary", "canonical_text")
    for given, wanted in zip(data["inputs"], data["outputs"], strict=True):
        assert canonical(bytes.fromhex(str(given)).decode()) == bytes.fromhex(str(wanted)).decode()


def test_canonical_text_loses_punctuation_and_case() -> None:
    assert canonical(" Building-other_(tall)!  ") == "buildingother tall"


def test_the_imagenet_templates_are_those_of_open_clip() -> None:
    assert [text.format("cat") for text in TEMPLATES["imagenet"]] == [
        write("cat") for write in open_clip.OPENAI_IMAGENET_TEMPLATES
    ]


def test_each_template_has_one_place_for_the_name() -> None:
    assert {name: len(texts) for name, texts in TEMPLATES.items()} == {
        "imagenet": 80, "single": 1, "scene": 1, "aerial": 18, "none": 1,
    }  # fmt: skip
    assert all(text.count("{}") == 1 for texts in TEMPLATES.values() for text in texts)
    assert TEMPLATES["aerial"][0] == "satellite imagery of {}." and TEMPLATES["aerial"][-1] == "aerial view of the {}."


def test_unknown_templates_are_named() -> None:
    with pytest.raises(InputError, match="templates 'imagnet' are unknown; choose one of imagenet, single"):
        templates_named("imagnet")
