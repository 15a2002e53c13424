"""Properties of the network: rotation, order of texts, independence of a batch, weights by count and by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.golden import load_golden
from helpers.remote_sensing import SMALL, small, telling_network
from torch import nn

from seg_zero.errors import InputError
from seg_zero.remote_sensing.model.cat_seg import CatSegLayer
from seg_zero.remote_sensing.model.costs import cosines, in_directions, turned_back
from seg_zero.remote_sensing.model.decoder import Decoder
from seg_zero.remote_sensing.model.finetuning import parameter_groups, set_trained
from seg_zero.remote_sensing.model.loss import segmentation_loss
from seg_zero.remote_sensing.model.network import RemoteSensingNetwork
from seg_zero.remote_sensing.model.rs_fusion import RsFusionLayer
from seg_zero.remote_sensing.model.settings import VIT_B, VIT_L, CatSegSettings, ModelSettings

DATA = load_golden("remote_sensing", "parameter_counts")
COUNTS = dict(zip(DATA["names"].tolist(), DATA["counts"].tolist(), strict=True))
NAMES = ["road", "water", "roof"]


def network(settings: ModelSettings = SMALL, seed: int = 0) -> RemoteSensingNetwork:
    torch.manual_seed(seed)
    return RemoteSensingNetwork(settings).eval()


def count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def images(number: int = 2, side: int = 32, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (number, 3, side, side))).float()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("B_N3", VIT_B),
        ("B_N5", replace(VIT_B, layers=5)),
        ("L_N2", VIT_L),
        ("L_N5", replace(VIT_L, layers=5)),
        ("B_N3_concat", replace(VIT_B, fusion="concatenation")),
        ("B_N3_mean", replace(VIT_B, fusion="mean")),
        ("B_N3_no_remoteclip", replace(VIT_B, remote=None)),
        ("B_N3_no_dino", replace(VIT_B, dino=None)),
        ("B_N3_no_rotate", replace(VIT_B, rotate=False)),
    ],
)
def test_weights_of_the_published_decoders(name: str, settings: ModelSettings) -> None:
    with torch.device("meta"):
        decoder = Decoder(settings)
    assert count(decoder) == COUNTS[f"decoder_{name}"]
    if name == "B_N3":
        parts = {
            "layers": decoder.layers,
            "guidance_projection": decoder.image_guide,
            "text_guidance_projection": decoder.text_guide,
            "CLIP_decoder_guidance_projection": decoder.clip_reduction,
            "Fusiondecoder1": decoder.up1,
            "Fusiondecoder2": decoder.up2,
            "head": decoder.head,
        }
        assert {part: count(module) for part, module in parts.items()} == {
            part: COUNTS[f"decoder_B_N3/{part}"] for part in parts
        }
        assert len(decoder.state_dict()) == COUNTS["decoder_B_state_keys"]


def test_weights_of_the_layers() -> None:
    with torch.device("meta"):
        light, heavy = RsFusionLayer(128, 8), CatSegLayer(128, CatSegSettings())
    assert (count(light), count(heavy)) == (COUNTS["eff_layer"], COUNTS["ori_layer"])
    assert (count(light.spatial), count(light.classes)) == (COUNTS["eff_layer/spatial"], COUNTS["eff_layer/class"])


@pytest.mark.parametrize(("size", "settings"), [("B", VIT_B), ("L", VIT_L)])
def test_weights_of_the_published_networks_and_what_each_mode_trains(size: str, settings: ModelSettings) -> None:
    with torch.device("meta"):
        made = RemoteSensingNetwork(settings)
    assert count(made.clip) == COUNTS[f"clip_{size}_total"]
    outer = sum(count(part) for part in (made.clip_up, made.remote_up, made.dino_up) if part is not None)
    assert outer == COUNTS[f"outer_projections_{size}"]
    for mode in ("attention", "freezeIMG", "full", "prompt", "frozen"):
        set_trained(made, mode, "frozen")  # type: ignore[arg-type]
        tuned = {name: weight for name, weight in made.clip.model.named_parameters() if weight.requires_grad}
        assert sum(weight.numel() for weight in tuned.values()) == COUNTS[f"clip_{size}_{mode}_params"]
        # transformers keeps the three biases of an attention apart, which the published code keeps in one.
        biases = sum(name.endswith(("q_proj.bias", "k_proj.bias")) for name in tuned)
        assert len(tuned) - biases == COUNTS[f"clip_{size}_{mode}_tensors"]
        if mode == "attention":
            assert all(name.endswith(("self_attn.q_proj.weight", "self_attn.v_proj.weight")) for name in tuned)
        assert not any(weight.requires_grad for part in (made.remote, made.dino) for weight in part.parameters())  # type: ignore[union-attr]
        assert all(weight.requires_grad for weight in made.decoder.parameters())
    assert made.dino is not None
    set_trained(made, "frozen", "attention")
    trained = {name for name, weight in made.dino.model.named_parameters() if weight.requires_grad}
    assert trained == {"pos_embed", *(f"blocks.{block}.attn.qkv.weight" for block in range(12))}


def test_rates_and_decays() -> None:
    made = network()
    set_trained(made, "attention", "full")
    groups = {group["name"]: group for group in parameter_groups(made, 2e-4, 1e-4, 0.01, 0.1)}
    assert {name: (round(group["lr"], 9), group["weight_decay"]) for name, group in groups.items()} == {
        "new": (2e-4, 1e-4),
        "new_norms": (2e-4, 0.0),
        "clip": (2e-6, 1e-4),
        "dino": (2e-5, 1e-4),
        "dino_norms": (2e-5, 0.0),
    }
    listed = [id(weight) for group in groups.values() for weight in group["params"]]
    trained = [id(weight) for weight in made.parameters() if weight.requires_grad]
    assert len(listed) == len(set(listed)) and set(listed) == set(trained)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_cost_maps_turn_with_the_picture_whatever_the_encoder(turns: int) -> None:
    torch.manual_seed(3)
    encoder = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Tanh(), nn.Conv2d(8, 16, 3, padding=1))
    places, text = torch.randn(1, 16, 6, 6), torch.randn(5, 16)

    def costs(pictures: torch.Tensor) -> torch.Tensor:
        features = encoder(in_directions(pictures)) + places
        return cosines(turned_back(features.chunk(4)), text)

    pictures = torch.rand(2, 3, 24, 24)
    turned = torch.rot90(costs(pictures), turns, (3, 4)).roll(-turns, dims=1)
    assert torch.allclose(costs(torch.rot90(pictures, turns, (2, 3))), turned, atol=1e-5)


def test_an_encoder_without_a_sense_of_direction_has_four_equal_maps() -> None:
    encoder = nn.Conv2d(3, 8, 1)
    found = cosines(turned_back(encoder(in_directions(torch.rand(1, 3, 6, 6))).chunk(4)), torch.randn(3, 8))
    assert torch.allclose(found, found[:, :1].expand_as(found), atol=1e-6)
    assert found.abs().max() <= 1 + 1e-6


def test_the_four_directions_are_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = network(), []
    image = made.clip.image
    monkeypatch.setattr(made.clip, "image", lambda pixels, *a, **k: seen.append(len(pixels)) or image(pixels, *a, **k))
    with torch.no_grad():
        made(images(2), NAMES)
    assert seen == [8]


VARIANTS = [
    small(),
    small(aggregator="cat_seg"),
    small(aggregator="cat_seg", cat_seg=CatSegSettings(2, 4, 1, "full", 0)),
    small(fusion="mean"),
    small(fusion="concatenation"),
    small(remote=None),
    small(dino=None, rotate=False),
]


@pytest.mark.parametrize("settings", VARIANTS)
def test_texts_have_no_order_and_pictures_do_not_see_each_other(settings: ModelSettings) -> None:
    made, pictures = network(settings), images(3)
    with torch.no_grad():
        found = made(pictures, NAMES)
        assert found.shape == (3, 3, 16, 16)
        assert torch.allclose(made(pictures, [NAMES[k] for k in (2, 0, 1)]), found[:, [2, 0, 1]], atol=1e-5)
        assert torch.allclose(made(pictures[1:2], NAMES), found[1:2], atol=1e-5)


@pytest.mark.parametrize("texts", [1, 40])
@pytest.mark.parametrize("aggregator", ["rs_fusion", "cat_seg"])
def test_one_text_and_forty(texts: int, aggregator: str) -> None:
    made = network(small(aggregator=aggregator))
    with torch.no_grad():
        found = made(images(1), [f"class {number}" for number in range(texts)])
    assert found.shape == (1, texts, 16, 16) and found.isfinite().all()


def test_shifted_windows_see_only_neighbours() -> None:
    layer = CatSegLayer(16, CatSegSettings(2, 4, 1, "linear", 0))
    nn.init.zeros_(layer.first.out.weight)
    maps, image = torch.randn(1, 16, 1, 8, 8), torch.randn(1, 16, 8, 8)
    other = maps.clone()
    other[..., 0, 0] = torch.randn(1, 16, 1)
    with torch.no_grad():
        layer.classes.forward = lambda x, text: x  # type: ignore[method-assign]
        changed = (layer(other, image, None) - layer(maps, image, None)).abs().amax(dim=(0, 1, 2)) > 1e-6  # type: ignore[arg-type]
    # Rolled by 2, the first place shares its window with the last two rows and columns, which the mask keeps apart.
    assert changed[:2, :2].all() and not changed[2:].any() and not changed[:, 2:].any()


def test_gradients_reach_what_is_trained_and_nothing_else() -> None:
    made = network().train()
    set_trained(made, "attention", "frozen")
    segmentation_loss(made(images(2), NAMES), torch.randint(0, 3, (2, 32, 32))).backward()
    for name, weight in made.named_parameters():
        unused = "vision_model.encoder.layers.2.self_attn.q_proj" in name  # the dense block has no attention
        assert (weight.grad is not None) == (weight.requires_grad and not unused), name


def test_ignored_pixels_do_not_train_unless_as_released() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    labels = torch.randint(0, 3, (2, 8, 8))
    labels[0] = 255
    loss = segmentation_loss(logits, labels)
    loss.backward()
    assert logits.grad is not None and not logits.grad[0].any() and logits.grad[1].any()
    assert torch.allclose(loss, segmentation_loss(logits[1:], labels[1:]))
    assert segmentation_loss(logits, torch.full_like(labels, 255)) == 0
    assert segmentation_loss(logits, torch.full_like(labels, 255), "released") > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"remote": replace(SMALL.remote, side=128)}, "remote has 8 patches a side, CLIP 4"),
        ({"dino": replace(SMALL.dino, side=16)}, "it needs twice as many"),
        ({"layers": 0}, "layers=0"),
        ({"heads": 3}, "cannot be split among 3 heads"),
        ({"decoder": (24, 16)}, "no multiples of 16"),
        ({"fusion": "query_guided"}, "choose separate, concatenation or mean"),
        ({"templates": "imagenet"}, "more than one sentence"),
    ],
)
def test_settings_that_do_not_fit(changes: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        small(**changes)


def test_a_small_network_learns_a_picture() -> None:
    made = telling_network(dino=None, remote=None).train()
    set_trained(made, "frozen", "frozen")
    picture = torch.zeros(1, 3, 32, 32)
    picture[:, 1, :, :16], picture[:, 2, :, 16:] = 200, 200
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[:, :, 16:] = 1
    optimiser = torch.optim.AdamW([w for w in made.parameters() if w.requires_grad], lr=5e-3)
    for _ in range(40):
        loss = segmentation_loss(made(picture, NAMES[:2]), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = made(picture, NAMES[:2])
    enlarged = nn.functional.interpolate(found, size=(32, 32), mode="bilinear", align_corners=False)
    assert (enlarged.argmax(dim=1) == labels).float().mean() > 0.95
    assert made.texts.computed == 1
