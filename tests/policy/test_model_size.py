"""Sizes of models whose family has no formula."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_models import make_config, make_processor

from seg_zero.errors import InputError
from seg_zero.policy.families import FAMILIES, Family
from seg_zero.policy.model_size import Architecture, find_architecture, read_architecture


def _config(family: str) -> Any:
    return make_config(family, make_processor(family).tokenizer)


def test_a_family_without_a_formula_is_counted_as_transformers_builds_it(tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText

    assert FAMILIES["glm4v"].size is None
    config = _config("glm4v")
    config.save_pretrained(tmp_path)
    found = find_architecture(str(tmp_path))
    with torch.device("meta"):
        model: Any = AutoModelForImageTextToText.from_config(config)
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    assert found is not None and (found.layers, found.hidden, found.heads, found.tied) == (3, 128, 2, True)
    assert found.parameters == sum(sizes.values())
    assert found.vision_parameters == sum(size for name, size in sizes.items() if ".visual." in name)
    assert found.layer_parameters == sum(size for name, size in sizes.items() if "language_model.layers.1." in name)
    text = found.embedding_parameters + found.layers * found.layer_parameters + found.hidden
    assert found.parameters == text + found.vision_parameters


def test_adapters_are_counted_as_peft_makes_them() -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    config = _config("glm4v")
    lora = LoraConfig(r=4, target_modules="all-linear", exclude_modules=FAMILIES["glm4v"].lora_exclude)
    model = get_peft_model(AutoModelForImageTextToText.from_config(config), lora)
    made = sum(weight.numel() for name, weight in model.named_parameters() if ".lora_" in name)
    assert read_architecture(config.to_dict()).lora_parameters(4) == made


def _sizes(model: Architecture) -> list[int]:
    parts = [model.layer_parameters, model.embedding_parameters, model.vision_parameters, model.parameters]
    vision = model.vision
    return [*parts, model.lora_parameters(8), vision.layers, vision.hidden, vision.intermediate, vision.heads]


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_formulas_and_building_agree(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A family that is added without a formula has the same estimates as with one."""
    settings, known = _config(family).to_dict(), FAMILIES[family]
    counted = _sizes(read_architecture(settings))
    monkeypatch.setitem(FAMILIES, family, Family(known.token_pixels, known.coordinates, known.hub_name))
    assert _sizes(read_architecture(settings)) == counted


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "bert"}, "policy family 'bert' is not supported"),
        ({}, "policy family 'None' is not supported"),
        ({"model_type": "glm4v", "text_config": {"hidden_size": "wide"}}, "cannot build a glm4v model"),
    ],
)
def test_configurations_that_cannot_be_used_end_in_one_line(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=message) as error:
        find_architecture(str(tmp_path))
    assert "\n" not in str(error.value)
