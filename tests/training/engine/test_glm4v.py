"""GLM-4.1V under verl's patches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers.tiny_models import image_side, make_config, make_processor
from PIL import Image
from transformers import AutoModelForImageTextToText, BatchFeature
from transformers.models.glm4v.modeling_glm4v import Glm4vForConditionalGeneration, Glm4vModel
from verl.models.transformers.monkey_patch import apply_monkey_patch
from verl.utils.flops_counter import ESTIMATE_FUNC

from seg_zero.training.engine.glm4v import glm_put_right


@pytest.fixture
def model() -> Iterator[Any]:
    """A tiny GLM-4.1V; what verl does to its classes is undone at the end."""
    kinds = (Glm4vModel, Glm4vForConditionalGeneration)
    before = [kind.forward for kind in kinds]
    torch.manual_seed(0)
    config = make_config("glm4v", make_processor("glm4v").tokenizer)
    yield AutoModelForImageTextToText.from_config(config).eval()
    for kind, forward in zip(kinds, before, strict=True):
        kind.forward = forward  # type: ignore[method-assign]


def _inputs(model: Any) -> BatchFeature:
    side = image_side("glm4v")
    picture = Image.linear_gradient("L").resize((side, side)).convert("RGB")
    inputs = make_processor("glm4v")(text=["<|image|> the cup"], images=[picture], return_tensors="pt")
    positions, _ = model.model.get_rope_index(**{k: v for k, v in inputs.items() if k != "pixel_values"})
    row = torch.arange(positions.shape[-1]).view(1, 1, -1)
    inputs["position_ids"] = torch.cat([row, positions])  # as verl gives them
    del inputs["mm_token_type_ids"]
    return inputs


@torch.no_grad()
def test_the_logits_are_those_of_transformers(model: Any) -> None:
    inputs = _inputs(model)
    plain = model(**inputs).logits
    with glm_put_right("glm4v"):
        apply_monkey_patch(model, use_remove_padding=False, ulysses_sp_size=1)
    assert Glm4vForConditionalGeneration.forward.__module__.startswith("verl.")
    assert torch.equal(model(**inputs).logits, plain)


@torch.no_grad()
def test_verl_alone_still_fails(model: Any) -> None:
    """When it does not, the first half of seg_zero.training.engine.glm4v can go."""
    inputs = _inputs(model)
    apply_monkey_patch(model, use_remove_padding=False, ulysses_sp_size=1)
    with pytest.raises(AttributeError):
        model(**inputs)


def test_operations_are_counted_in_the_language_model(model: Any) -> None:
    """12 tokens in 2 s: 6 for each weight and token, and 6 x layers x heads x head size x squared length."""
    with glm_put_right("glm4v"):
        found = ESTIMATE_FUNC["glm4v"](model.config, 12, [12], 2.0)
    weights = 3 * (3 * 128 * 192 + 128 * (128 + 64 + 64 + 128)) + 2 * 512 * 128
    attention = 6 * 3 * 2 * 64 * 12**2
    assert found == pytest.approx((6 * weights * 12 + attention) / 2 / 1e12)


def test_other_families_are_left_to_verl(model: Any) -> None:
    with glm_put_right("qwen3_vl"):
        apply_monkey_patch(model, use_remove_padding=False, ulysses_sp_size=1)
    assert Glm4vModel.forward.__module__.startswith("verl.")
