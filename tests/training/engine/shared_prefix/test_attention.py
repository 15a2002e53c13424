"""A row of shared prefixes computes what separate rows do: log-probabilities, entropy, loss and every gradient.

In float32, on random models of every family, by transformers' own forward passes (tests of the engine use verl's).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from helpers.tiny_models import image_side, make_config, make_processor
from transformers import AutoModelForImageTextToText

from seg_zero.policy.families import FAMILIES
from seg_zero.training.engine.shared_prefix.attention import shared_prefix_attention
from seg_zero.training.engine.shared_prefix.batch import FlatRow, ImageTokens, flat_row, shown_images
from seg_zero.training.engine.shared_prefix.forward import share_prefixes
from seg_zero.training.engine.shared_prefix.layout import Layout
from seg_zero.training.engine.shared_prefix.tree import prefix_tree

ALL = tuple(FAMILIES)
RELATIVE = 1e-5
# Answers of each group: lengths; and images in the prompt.
SHAPES: dict[str, tuple[tuple[list[int], int], ...]] = {
    "one group of equal answers": (([12] * 4, 1),),
    "unequal groups, single tokens, one answer alone, two images": (([9, 1, 17], 1), ([5], 2), ([1, 30, 2, 8], 2)),
    "groups of one": (([6], 1), ([9], 1)),
}


@dataclass(frozen=True)
class Case:
    """sequences: (tokens,) ids of prompts and answers. positions: (4, tokens) each. prompts: their lengths."""

    sequences: list[torch.Tensor]
    positions: list[torch.Tensor]
    prompts: list[int]
    images: list[dict[str, torch.Tensor]]
    parts: list[int]


@cache
def tiny(family: str) -> Any:
    config = make_config(family, make_processor(family).tokenizer)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa").float()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:  # not so small that all answers are equally likely
                weight.normal_(0, weight[0].numel() ** -0.5)
    return model


def image_tokens(model: Any) -> ImageTokens:
    return ImageTokens(model.config.image_token_id, model.config.vision_config.spatial_merge_size)


def positions_of(ids: torch.Tensor, token: int, side: int) -> torch.Tensor:
    """(4, tokens): of text, and as M-RoPE counts: an image's tokens by row and column, text from its end on."""
    rows, at, place = [], 0, 0
    while place < len(ids):
        if ids[place] == token:
            rows += [[at, at + i // side, at + i % side] for i in range(side * side)]
            place, at = place + side * side, at + side
        else:
            rows.append([at] * 3)
            place, at = place + 1, at + 1
    return torch.cat([torch.arange(len(ids))[None], torch.tensor(rows).T])


def make_case(family: str, shape: Sequence[tuple[list[int], int]]) -> Case:
    model, random = tiny(family), torch.Generator().manual_seed(1)
    tokens, side = image_tokens(model), image_side(family) // FAMILIES[family].token_pixels
    patch = FAMILIES[family].token_pixels // 2
    grid = torch.tensor([[1, 2 * side, 2 * side]])
    case = Case([], [], [], [], [])
    for number, (lengths, images) in enumerate(shape):
        text = torch.randint(20, 400, (7 + number,), generator=random)
        prompt = torch.cat([text, *[torch.full((side * side,), tokens.token), text[:2]] * images])
        pixels = torch.randn(4 * side * side * images, 3 * 2 * patch * patch, generator=random)
        for length in lengths:
            case.sequences.append(torch.cat([prompt, torch.randint(20, 400, (length,), generator=random)]))
            case.positions.append(positions_of(case.sequences[-1], tokens.token, side))
            case.prompts.append(len(prompt))
            case.images.append({"pixel_values": pixels, "image_grid_thw": grid.expand(images, 3)})
        case.parts.append(len(lengths))
    return case


Result = tuple[torch.Tensor, torch.Tensor, float, dict[str, torch.Tensor]]


def judge(model: Any, logits: torch.Tensor, labels: torch.Tensor) -> Result:
    """Log-probabilities and entropy of all answers, a loss that weighs every token differently, and its gradients."""
    logs = logits.log_softmax(-1)
    chosen, entropy = logs.gather(-1, labels[:, None])[:, 0], -(logs.exp() * logs).sum(-1)
    weights = torch.randn(len(labels), generator=torch.Generator().manual_seed(2))
    loss = (weights * chosen).sum() / len(labels) - 0.1 * entropy.mean()
    loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return chosen.detach(), entropy.detach(), loss.item(), gradients


def separate(model: Any, case: Case) -> Result:
    logits, labels = [], []
    for ids, positions, prompt, images in zip(case.sequences, case.positions, case.prompts, case.images, strict=True):
        seen = torch.ones(1, len(ids), dtype=torch.long)
        output = model(
            input_ids=ids[None], position_ids=positions[:, None], attention_mask=seen, use_cache=False, **images
        )
        logits.append(output.logits[0, prompt - 1 : -1])
        labels.append(ids[prompt:])
    return judge(model, torch.cat(logits), torch.cat(labels))


def run_row(model: Any, case: Case, row: FlatRow) -> Result:
    ids = torch.cat(case.sequences)
    logits = model(
        input_ids=ids[row.tokens][None],
        position_ids=torch.cat(case.positions, 1)[:, None, row.tokens],
        layout=row.layout,
        logits_at=row.logits_at,
        use_cache=False,
        **shown_images(row, case.images),
    ).logits
    return judge(model, logits, ids[row.predicted + 1])


def shared(model: Any, case: Case) -> Result:
    tokens = image_tokens(model)
    return run_row(model, case, flat_row(case.sequences, case.prompts, case.parts, case.images, tokens))


def assert_equal(found: Result, expected: Result) -> None:
    """To 1e-5 of the largest value; of each weight's own largest gradient, if that is more than rounding of others."""
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert (one - other).abs().max() <= RELATIVE * other.abs().max()
    assert found[2] == pytest.approx(expected[2], rel=RELATIVE, abs=RELATIVE)
    assert set(found[3]) == set(expected[3]) and found[3]
    largest = max(float(gradient.abs().max()) for gradient in expected[3].values())
    for name, gradient in expected[3].items():
        scale = max(float(gradient.abs().max()), 1e-3 * largest)
        assert (found[3][name] - gradient).abs().max() <= RELATIVE * scale, name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", ALL)
def test_shared_and_separate_rows_agree(family: str, shape: str) -> None:
    model, case = tiny(family), make_case(family, SHAPES[shape])
    theirs, ours = copy.deepcopy(model), copy.deepcopy(model)
    share_prefixes(ours)
    expected = separate(theirs, case)
    assert_equal(shared(ours, case), expected)
    tower = [name for name in expected[3] if "visual" in name]
    assert tower and any(expected[3][name].abs().max() > 0 for name in tower)


@pytest.mark.parametrize("family", ALL)
def test_they_agree_with_gradient_checkpointing_and_a_frozen_tower(family: str) -> None:
    model, case = tiny(family), make_case(family, SHAPES["one group of equal answers"])
    theirs, ours = copy.deepcopy(model), copy.deepcopy(model)
    for one in (theirs, ours):
        for name, weight in one.named_parameters():
            weight.requires_grad_("visual" not in name)
        one.train().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    share_prefixes(ours)
    assert_equal(shared(ours, case), separate(theirs, case))


@pytest.mark.parametrize("family", ALL)
def test_they_agree_with_adapters(family: str) -> None:
    from peft import LoraConfig, get_peft_model

    model, case = tiny(family), make_case(family, SHAPES["one group of equal answers"])
    theirs, ours = copy.deepcopy(model), copy.deepcopy(model)
    share_prefixes(ours)
    adapted = []
    for one in (theirs, ours):
        torch.manual_seed(3)
        settings = {"target_modules": "all-linear", "exclude_modules": ".*visual.*", "init_lora_weights": False}
        adapted.append(get_peft_model(one, LoraConfig(task_type="CAUSAL_LM", r=4, **settings)))  # type: ignore[arg-type]
    expected = separate(adapted[0], case)
    assert all("lora" in name for name in expected[3])
    assert_equal(shared(adapted[1], case), expected)


@pytest.mark.parametrize("family", ALL)
def test_a_tree_of_several_levels_agrees_too(family: str) -> None:
    """Answers share their own beginnings, as the rounds of a dialogue do: up to four levels below one prompt."""
    model, case = tiny(family), make_case(family, (([4, 6, 6, 8, 3], 1),))
    beginning = case.sequences[3][case.prompts[0] :]
    for row, common in enumerate((3, 2, 2, 8, 0)):  # 1 and 2 share one token more
        case.sequences[row][case.prompts[0] :][:common] = beginning[:common]
    case.sequences[2][case.prompts[0] + 2] = case.sequences[1][case.prompts[0] + 2] = 399
    tokens = image_tokens(model)
    forest = prefix_tree([ids.numpy() for ids in case.sequences])
    assert len(Layout(forest).levels) == 4
    two_levels = flat_row(case.sequences, case.prompts, case.parts, case.images, tokens)
    starts = torch.tensor([0, *(len(ids) for ids in case.sequences)]).cumsum(0)
    layout = Layout(forest)
    chosen = [torch.arange(s.start, s.stop) + starts[s.rows[0]] for s in forest]
    at = [layout.places(row)[prompt - 1 : -1] for row, prompt in enumerate(case.prompts)]
    several = FlatRow(layout, torch.cat(chosen), torch.cat(at), two_levels.predicted, two_levels.images)
    assert layout.tokens < two_levels.layout.tokens
    theirs, ours = copy.deepcopy(model), copy.deepcopy(model)
    share_prefixes(ours)
    assert_equal(run_row(ours, case, several), separate(theirs, case))


def test_without_a_layout_the_model_raises() -> None:
    """Positions that start again would otherwise be taken for packed sequences, whose answers see no prompt."""
    model = copy.deepcopy(tiny("qwen2_5_vl"))
    share_prefixes(model)
    ids, at = torch.arange(30, 40)[None], torch.tensor([9])
    with pytest.raises(ValueError, match="got no layout"):
        model(input_ids=ids, logits_at=at, use_cache=False)
    with pytest.raises(ValueError, match="the layout is of 1 row of 9 tokens"):
        layout = Layout(prefix_tree([ids[0, :9].numpy()]))
        model(input_ids=ids, logits_at=at, layout=layout, use_cache=False)


def test_what_a_layout_cannot_express_raises() -> None:
    states, layout = torch.zeros(1, 1, 4, 8), Layout(prefix_tree([torch.arange(4).numpy()]))
    module = torch.nn.Identity()
    with pytest.raises(ValueError, match="got a mask"):
        shared_prefix_attention(module, states, states, states, torch.zeros(1, 1, 4, 4), layout=layout)
    with pytest.raises(ValueError, match="sliding window"):
        shared_prefix_attention(module, states, states, states, None, layout=layout, sliding_window=2)
