"""The network against values from the published code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.golden import golden_files, load_golden, tensors

from seg_zero.encoders.dense_clip import ClipSettings, DenseClip, VisionSettings, dense_block
from seg_zero.encoders.dino_map import DinoMap, resized_positions
from seg_zero.encoders.published_weights import transformers_names
from seg_zero.remote_sensing.model.decoder import Decoder, Features, costs_of
from seg_zero.remote_sensing.model.inference import finished, joined, network_input, windows
from seg_zero.remote_sensing.model.loss import segmentation_loss
from seg_zero.remote_sensing.model.network import MEAN, STD
from seg_zero.remote_sensing.model.published import decoder_names
from seg_zero.remote_sensing.model.settings import VIT_B, ModelSettings

ROOM = "remote_sensing"


def weights(data: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name[3:]: torch.from_numpy(value) for name, value in data.items() if name.startswith("sd/")}


def close(found: torch.Tensor, wanted: np.ndarray, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(found.detach().numpy(), wanted, atol=atol, rtol=1e-4)


def wave(size: tuple[int, int], phase: float, level: float = 0.0, height: float = 1.0) -> torch.Tensor:
    c, y, x = np.ogrid[:3, : size[0], : size[1]]
    return torch.from_numpy(level + height * np.sin(0.013 * (c + 1) * y + 0.017 * (c + 2) * x + c + phase))[None]


def pixels_of(data: dict[str, np.ndarray]) -> torch.Tensor:
    return wave(tuple(data["image_size"]), float(data["phase"]), 127.5, 127.5).round().float()


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def clip_of(width: int, heads: int, patch: int, native: int, side: int, layers: int, embed: int) -> DenseClip:
    vision = VisionSettings(native, side, patch, width, layers, (0, 1), heads)
    return DenseClip(ClipSettings(vision, embed, 16, 1, 1, vocabulary=40)).eval()


@pytest.mark.parametrize("name", golden_files(ROOM, "dense_block_*"))
def test_dense_and_ordinary_block(name: str) -> None:
    data = load_golden(ROOM, name)
    x = torch.from_numpy(data["x_LBD"]).transpose(0, 1)
    tower = clip_of(x.shape[-1], int(data["heads"]), 4, 16, 16, 3, 8).model.vision_model
    block = tower.encoder.layers[0]
    state = {f"transformer.resblocks.0.{k}": v for k, v in weights(data).items()}
    block.load_state_dict(
        {k.split(".", 4)[4]: v for k, v in transformers_names({f"visual.{k}": v for k, v in state.items()}).items()}
    )
    close(dense_block(block, x).transpose(0, 1), data["dense_LBD"])
    close(block(x, None).transpose(0, 1), data["ordinary_LBD"])
    with torch.no_grad():
        before = dense_block(block, x)
        block.self_attn.q_proj.weight.zero_()
        block.self_attn.k_proj.weight.zero_()
        assert torch.equal(dense_block(block, x), before)


@pytest.mark.parametrize("name", golden_files(ROOM, "clip_tower_*"))
def test_dense_tower(name: str) -> None:
    data = load_golden(ROOM, name)
    state = transformers_names({f"visual.{k}": v for k, v in weights(data).items()})
    width, embed = data["sd/proj"].shape
    image = torch.from_numpy(data["image"])
    layers = 1 + max(int(k.split(".")[3]) for k in state if ".layers." in k)
    tower = clip_of(
        width, int(data["heads"]), int(data["patch"]), int(data["train_res"]), image.shape[-1], layers, embed
    )
    missing, extra = tower.model.load_state_dict(state, strict=False)
    assert not extra and all(name.startswith(("text", "logit")) for name in missing)
    mids = [int(number) for number in data["mids"]]
    dense, middle = tower.image(image, mids)
    close(dense.flatten(2).transpose(1, 2), data["dense"][:, 1:], 5e-5)
    for number, found in zip(mids, middle, strict=True):
        close(found.flatten(2).permute(2, 0, 1), data[f"block{number}_LBD"][1:], 5e-5)
    if "pos_resized" in data:
        embeddings = tower.model.vision_model.embeddings
        tokens = torch.zeros(1, len(data["pos_resized"]), width)
        close(embeddings.interpolate_pos_encoding(tokens, *image.shape[2:])[0], data["pos_resized"])
    _, first = tower.image(image, mids, taken_from=1)
    assert all(len(part) == 1 for part in first)


def test_dino_tower() -> None:
    data = load_golden(ROOM, "dino_1")
    state = weights(data)
    tower = DinoMap(VisionSettings(224, 384, 8, 24, 3, (0, 1), int(data["heads"])), mlp_ratio=2).eval()
    tower.model.load_state_dict(state)
    close(resized_positions(state["pos_embed"], 48, 48)[0], data["pos_resized"])
    c, y, x = np.ogrid[:3, :384, :384]
    image = torch.from_numpy(np.sin(0.011 * (c + 1) * y + 0.017 * (c + 2) * x + c + float(data["phase"])))[None].float()
    with torch.no_grad():
        first, second, last = tower.tokens(image)
    close(first[0, ::7], data["layer0_sub"], 5e-5)
    close(second[0, ::7], data["layer1_sub"], 5e-5)
    close(last[0, ::7], data["layer2_sub"], 5e-5)
    close(last[0], data["layer_last"], 5e-5)


def small_decoder(data: dict[str, np.ndarray]) -> tuple[Decoder, Features]:
    state = weights(data)
    hidden = len(state["guidance_projection.0.weight"])
    reduced = [state[f"CLIP_decoder_guidance_projection.{k}.0.weight"].shape for k in (0, 1)]
    sources = {
        "remote": VIT_B.remote if data["use_remote_clip"] else None,
        "dino": VIT_B.dino if data["use_dino"] else None,
    }
    settings = replace(
        ModelSettings(),
        clip=replace(VIT_B.clip, embed=data["text"].shape[1]),
        rotate=bool(data["rotate"]),
        fusion=str(data["fusion"]).removeprefix("simple_"),
        layers=1 + max(int(k.split(".")[1]) for k in state if k.startswith("layers.")),
        hidden=hidden,
        guide_widths=(reduced[0][1], reduced[1][1]),
        guide_channels=(reduced[0][0], reduced[1][0]),
        decoder=(len(state["Fusiondecoder1.conv.double_conv.1.weight"]), state["head.weight"].shape[1]),
        **sources,
    )
    decoder = Decoder(settings).eval()
    decoder.load_state_dict(decoder_names(state))

    def guides(source: str) -> list[torch.Tensor] | None:
        return list(tensors(data, f"guide_{source}_1", f"guide_{source}_2")) if f"guide_{source}_1" in data else None

    clip = guides("clip")
    assert clip is not None
    turned = list(tensors(data, *(f"feat_rot{k}" for k in range(settings.directions))))
    dino = torch.from_numpy(data["dino_feat"]) if "dino_feat" in data else None
    image = torch.from_numpy(data["guide_dense"])
    return decoder, Features(image, turned, clip, guides("remote"), dino, guides("dino"))


@pytest.mark.parametrize("name", golden_files(ROOM, "decoder_*"))
def test_decoder(name: str) -> None:
    data = load_golden(ROOM, name)
    decoder, features = small_decoder(data)
    text = torch.from_numpy(data["text"])
    clip, dino = costs_of(features, text)
    close(clip, data["cost_clip"])
    assert (dino is None) == ("cost_dino" not in data)
    if dino is not None:
        close(dino, data["cost_dino"])
    close(decoder.cost_fusion(clip, dino), data["fused_embed"], 5e-5)
    seen: dict[str, torch.Tensor] = {}
    for number, layer in enumerate(decoder.layers):
        layer.spatial.register_forward_hook(lambda *a, key=f"layer{number}_spatial_out": seen.update({key: a[2]}))
        layer.register_forward_hook(lambda *a, key=f"layer{number}_out": seen.update({key: a[2]}))
    decoder.up1.register_forward_hook(lambda *a: seen.update(up1_out=a[2]))
    decoder.up2.register_forward_hook(lambda *a: seen.update(up2_out=a[2]))
    close(decoder(features, text), data["logits"], 5e-5)
    for key, found in seen.items():
        close(found, data[f"mid/{key}"], 5e-5)
    close(decoder.image_guide(features.image), data["mid/g_image"], 5e-5)


@pytest.mark.parametrize("name", golden_files(ROOM, "loss_*"))
def test_released_loss(name: str) -> None:
    data = load_golden(ROOM, name)
    logits, labels = tensors(data, "logits", "labels")
    loss = segmentation_loss(logits.requires_grad_(), labels, compat="released")
    loss.backward()
    close(loss, data["loss"])
    close(logits.grad, data["grad"], 1e-7)


@pytest.mark.parametrize("name", golden_files(ROOM, "inference_plain_*"))
def test_released_inference(name: str) -> None:
    data = load_golden(ROOM, name)
    pixels = network_input(pixels_of(data), normalised, "released")
    shape = tuple(int(n) for n in data["clip_input_shape"])
    squeezed = torch.nn.functional.interpolate(pixels, size=shape[2:], mode="bilinear", align_corners=False)
    close(squeezed[0, :, ::24, ::24], data["clip_input_probe"])
    size, out = (tuple(int(n) for n in data[key]) for key in ("image_size", "out_size"))
    close(finished(torch.from_numpy(data["logits"]), size, out, "released")[0], data["result"])


@pytest.mark.parametrize("name", golden_files(ROOM, "sliding_*"))
def test_sliding(name: str) -> None:
    data = load_golden(ROOM, name)
    parts = normalised(windows(pixels_of(data)))
    close(parts[:, :, ::48, ::48], data["window_probe"])
    close(parts.mean(dim=(2, 3)), data["window_mean"], 1e-4)
    found = joined(torch.from_numpy(data["logits"]))
    close(found[0, :, ::16, ::16], data["result_640_sub"])
    out = tuple(int(n) for n in data["out_size"])
    close(torch.nn.functional.interpolate(found, size=out, mode="bilinear", align_corners=False)[0], data["result"])
