"""Text vectors: remembered while they hold, and no longer."""

from __future__ import annotations

import pytest
import torch
from helpers.remote_sensing import SMALL

from seg_zero.encoders.dense_clip import DenseClip
from seg_zero.errors import InputError
from seg_zero.remote_sensing.model.texts import TextVectors


def texts(trained: bool) -> tuple[DenseClip, TextVectors]:
    torch.manual_seed(0)
    clip = DenseClip(SMALL.clip).requires_grad_(False)
    if trained:
        clip.model.text_model.encoder.layers[0].self_attn.q_proj.weight.requires_grad_(True)
    return clip, TextVectors(clip, "scene")


def test_a_frozen_tower_is_asked_once_for_a_list() -> None:
    _, vectors = texts(False)
    first = vectors(["road", "water"])
    vectors.train()
    assert torch.equal(vectors(["road", "water"]), first) and vectors.computed == 1
    assert first.shape == (2, 16) and not first.requires_grad


def test_another_list_is_asked_for() -> None:
    _, vectors = texts(False)
    both, one = vectors(["road", "water"]), vectors(["water"])
    assert torch.allclose(both[1:], one, atol=1e-6) and vectors.computed == 2


def test_a_trained_tower_is_asked_at_every_step_and_once_for_an_evaluation() -> None:
    clip, vectors = texts(True)
    weight = clip.model.text_model.encoder.layers[0].self_attn.q_proj.weight
    optimiser = torch.optim.AdamW([weight], lr=0.1)
    for step in range(2):
        loss = vectors(["road", "water"]).square().mean() + vectors(["road", "water"])[0, 0]
        loss.backward()
        assert weight.grad is not None and weight.grad.any() and vectors.computed == 2 * step + 2
        optimiser.step()
    with torch.no_grad():
        before = vectors(["road", "water"])
        assert torch.equal(vectors(["road", "water"]), before) and vectors.computed == 5
    vectors(["road", "water"])[0, 0].backward()
    optimiser.step()
    with torch.no_grad():
        assert not torch.equal(vectors(["road", "water"]), before)


def test_loading_weights_and_train_drop_what_was_remembered() -> None:
    clip, vectors = texts(True)
    with torch.no_grad():
        before = vectors(["road"])
        clip.load_state_dict({name: value + 0.1 for name, value in clip.state_dict().items()})
        assert not torch.equal(vectors(["road"]), before)
        asked = vectors.computed
        vectors.train()
        vectors(["road"])
        assert vectors.computed == asked + 1


def test_vectors_remembered_in_inference_can_be_trained_on() -> None:
    _, vectors = texts(False)
    with torch.inference_mode():
        vectors(["road"])
    scale = torch.ones((), requires_grad=True)
    (vectors(["road"]) * scale).sum().backward()
    assert scale.grad is not None


def test_the_first_synonym_counts() -> None:
    _, vectors = texts(False)
    assert torch.equal(vectors.tokens(["road, street"]), vectors.tokens(["road"]))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "no class name"),
        (["road", " "], "class name ' ' is no word"),
        (["Road", "road "], "'Road' and 'road ' differ only in case or spaces"),
        (["bare  land", "bare land"], "'bare  land' and 'bare land' differ only in case or spaces"),
        (["road", "road"], "'road' is given twice"),
    ],
)
def test_names_that_cannot_be_told_apart(names: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        texts(False)[1](names)
