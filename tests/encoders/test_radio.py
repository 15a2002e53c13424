"""RADIO: conversion of published checkpoints, position rules, adaptors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.radio import (
    SMALL,
    head_weights,
    published_state,
    small_backbone,
    small_checkpoint,
    write_checkpoint,
)
from timm.models import naflexvit
from torch.nn.utils.parametrizations import _SpectralNorm

from seg_zero.encoders.adaptors import AdaptorHead, FirstAdaptorHead, head_of
from seg_zero.encoders.radio import MEAN, STD, find_radio, load_radio
from seg_zero.encoders.radio_convert import convert, converted, fold_reparametrisation
from seg_zero.encoders.radio_model import configuration
from seg_zero.encoders.radio_versions import VERSIONS, Architecture, read_description, version_of
from seg_zero.errors import InputError


@pytest.mark.parametrize("name", list(VERSIONS))
def test_published_architectures_are_those_of_timm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naflexvit, "_create_naflexvit", lambda variant, pretrained, cfg: cfg)
    version = VERSIONS[name]
    theirs = getattr(naflexvit, version.timm)()
    assert configuration(version.architecture, theirs.pos_embed_align_corners) == theirs
    assert version_of(version.architecture) == name


def test_a_published_checkpoint_gives_its_own_features(tmp_path: Path) -> None:
    checkpoint, model = small_checkpoint(tmp_path / "small.pth.tar")
    description = convert(checkpoint, tmp_path / "folder", SMALL)
    assert list(description.adaptors) == ["clip", "siglip2", "sam"]  # DINO's teacher has no summary head
    assert description.adaptors["siglip2"].model == "google/siglip2-so400m-patch16-naflex"
    assert read_description(tmp_path / "folder") == description
    encoder = load_radio(tmp_path / "folder", device="cpu", dtype="float32")
    images = torch.rand(2, 3, 64, 96)
    normal = (images - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)
    tokens = model.forward_features(normal)[:, 8:]
    assert torch.allclose(encoder.features(images), tokens.transpose(1, 2).reshape(2, 32, 4, 6), atol=1e-5)
    wanted = AdaptorHead(32, 40, 24, 1)
    wanted.load_state_dict({k.removeprefix("h."): v for k, v in head_weights("h", 24, seed=1).items()})
    assert torch.equal(encoder.adaptor("siglip2-g").summary(tokens), wanted(tokens))
    assert encoder.adaptor("sam").feature is not None and encoder.adaptor("clip").feature is None


def test_a_checkpoint_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("seg_zero.encoders.radio_convert.version_of", lambda _: "small")
    monkeypatch.setitem(VERSIONS, "small", VERSIONS["c-radio_v3-b"].__class__("", "", "", SMALL, True))
    checkpoint, _ = small_checkpoint(tmp_path / "small.pth.tar")
    first = converted(checkpoint)
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert find_radio(checkpoint) == first and (first / "model.safetensors").stat().st_mtime_ns == written
    os.utime(checkpoint, ns=(1, 1))
    assert converted(checkpoint) != first


def test_the_position_rule_follows_the_version(tmp_path: Path) -> None:
    checkpoint, _ = small_checkpoint(tmp_path / "small.pth.tar")
    description = convert(checkpoint, tmp_path / "folder", SMALL)
    assert not description.align_corners("released")  # of no published version
    for name in VERSIONS:
        of_version = description.__class__(name, SMALL)
        assert not of_version.align_corners("torch_hub")
        assert of_version.align_corners("released") == name.startswith("c-radio_v3")
    with pytest.raises(InputError, match="position rule 'old' is unknown; choose one of torch_hub, released"):
        description.align_corners("old")  # type: ignore[arg-type]
    images = torch.rand(1, 3, 64, 96)
    assert not torch.allclose(
        small_backbone(align_corners=True).forward_features(images),
        small_backbone().forward_features(images),
        atol=1e-3,
    )


@pytest.mark.parametrize("size", [(32, 32), (32, 96), (160, 48)])
def test_positions_are_resized_to_a_square_and_cropped(size: tuple[int, int]) -> None:
    model = small_backbone()
    rows, columns = size[0] // 16, size[1] // 16
    flat = model.embeds(torch.zeros(1, 3, *size))
    found = (flat[0] if isinstance(flat, tuple) else flat)[0, -rows * columns :].reshape(rows, columns, -1)
    longest = max(rows, columns)
    square = F.interpolate(model.embeds.pos_embed.permute(0, 3, 1, 2), (longest, longest), mode="bilinear")
    assert torch.allclose(found, square[0, :, :rows, :columns].permute(1, 2, 0), atol=1e-5)


def test_images_of_odd_sizes_are_refused(tmp_path: Path) -> None:
    checkpoint, _ = small_checkpoint(tmp_path / "small.pth.tar")
    convert(checkpoint, tmp_path / "folder", SMALL)
    encoder = load_radio(tmp_path / "folder", device="cpu")
    with pytest.raises(InputError, match="images of 40x32 do not fit; sides are multiples of 16 up to 2048"):
        encoder.features(torch.rand(1, 3, 32, 40))
    with pytest.raises(InputError, match="has no adaptor 'siglip3'; it has clip, siglip2, sam"):
        encoder.adaptor("siglip3")


class Reparametrised(_SpectralNorm):
    """RADIO's scaled spectral norm, from its published description."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        sigma = torch.dot(self._u, weight.flatten(1) @ self._v) + 1e-6
        return weight * (F.softplus(torch.tensor(0.3)) + 0.05) / sigma


def test_reparametrised_weights_are_folded() -> None:
    torch.manual_seed(0)
    weight = torch.randn(12, 8)
    norms = [Reparametrised(part) for part in weight.chunk(3)]
    prefix = "base_model.blocks.0.attn.qkv.parametrizations.weight."
    state = {"base_model.blocks.0.norm1.weight": torch.ones(8), f"{prefix}original": weight}
    for number, norm in enumerate(norms[:2]):  # the values' part is plain
        part = f"{prefix}0.parts.{number}."
        state |= {f"{part}_u": norm._u, f"{part}_v": norm._v, f"{part}scale": torch.tensor([[0.3]])}
        state[f"{part}_sn_version"] = torch.tensor(2)
    whole = Reparametrised(weight)
    one = "_heads.0.fc1.parametrizations.weight."
    state |= {
        f"{one}original": weight,
        f"{one}0._u": whole._u,
        f"{one}0._v": whole._v,
        f"{one}0.scale": torch.tensor([[2.0]]),
    }
    folded = fold_reparametrisation(state)
    assert sorted(folded) == [
        "_heads.0.fc1.weight", "base_model.blocks.0.attn.qkv.weight", "base_model.blocks.0.norm1.weight",
    ]  # fmt: skip
    parts = weight.chunk(3)
    wanted = torch.cat([norms[0](parts[0]), norms[1](parts[1]), parts[2]])
    assert torch.allclose(folded["base_model.blocks.0.attn.qkv.weight"], wanted, atol=1e-6)
    sigma = torch.dot(whole._u, weight @ whole._v) + 1e-6  # the first form stores the scale as it is
    assert torch.allclose(folded["_heads.0.fc1.weight"], weight * 2.0 / sigma, atol=1e-6)


@pytest.mark.parametrize(
    "head", [AdaptorHead(8, 12, 5, 2, pre_norm=True), AdaptorHead(8, 12, 5), FirstAdaptorHead(8, 12, 5, 2)]
)
def test_a_head_is_rebuilt_from_its_weights(head: torch.nn.Module) -> None:
    x = torch.randn(3, 4, 8)
    assert torch.equal(head_of(head.state_dict(), "x")(x), head(x))


def test_heads_of_other_forms_are_refused() -> None:
    with pytest.raises(InputError, match=r"adaptor head clip is of no known form \(weights proj.weight\)"):
        head_of({"proj.weight": torch.zeros(2, 2)}, "clip")


class Surprise:
    """What a checkpoint must not hold."""


def test_bad_checkpoints_are_named(tmp_path: Path) -> None:
    out, state = tmp_path / "out", published_state(small_backbone())
    cases = {
        "is no readable checkpoint": tmp_path / "text.pth.tar",
        "holds list and no checkpoint": tmp_path / "list.pth.tar",
        "has no weights under base_model": write_checkpoint(tmp_path / "empty.pth.tar", {"a": torch.zeros(1)}),
        "width 32, 2 blocks and 8 prefix tokens is no published RADIO": write_checkpoint(tmp_path / "s.pth.tar", state),
        "holds test_radio.Surprise besides weights": write_checkpoint(tmp_path / "c.pth.tar", state, x=Surprise()),
        "no patch_generator.cls_token": write_checkpoint(tmp_path / "n.pth.tar", {"base_model.a": torch.zeros(1)}),
    }
    cases["is no readable checkpoint"].write_text("hello")
    torch.save([1], cases["holds list and no checkpoint"])
    for message, path in cases.items():
        with pytest.raises(InputError, match=message):
            convert(path, out)
        assert not out.exists()
    with pytest.raises(InputError, match="differs from its architecture in"):
        convert(cases["width 32, 2 blocks and 8 prefix tokens is no published RADIO"], out, Architecture(32, 3, 2))
    out.mkdir()
    with pytest.raises(InputError, match="exists; give a new folder"):
        convert(cases["is no readable checkpoint"], out)


def test_unknown_backbones_and_damaged_folders_are_named(tmp_path: Path) -> None:
    known = "known versions are tiny, c-radio_v3-b"
    with pytest.raises(InputError, match=f"backbone radio_v9 is no file, no folder and no version; {known}"):
        load_radio("radio_v9")
    with pytest.raises(InputError, match=r"has no radio.json; give a RADIO checkpoint \(.pth.tar\)"):
        load_radio(tmp_path)
    (tmp_path / "radio.json").write_text('{"version": 3}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="is no description of a RADIO backbone"):
        load_radio(tmp_path)
    checkpoint, _ = small_checkpoint(tmp_path / "small.pth.tar")
    convert(checkpoint, tmp_path / "folder", SMALL)
    weights = tmp_path / "folder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read .*convert the checkpoint again"):
        load_radio(tmp_path / "folder", device="cpu")


def test_a_version_that_cannot_be_fetched_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(repo_id: str, filename: str) -> str:
        raise OSError(f"no route to {repo_id}/{filename}")

    monkeypatch.setattr("seg_zero.hub.unreachable", lambda: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(InputError, match=r"cannot get c-radio_v3-b_half\.pth\.tar of nvidia/C-RADIOv3-B"):
        find_radio("c-radio_v3-b")


def test_the_moving_average_and_wrapped_names_are_read(tmp_path: Path) -> None:
    model = small_backbone()
    wrapped = {f"module.{name}": value for name, value in published_state(model).items()}
    plain = {name: value * 0 for name, value in published_state(model).items()}
    path = write_checkpoint(tmp_path / "ema.pth.tar", plain, state_dict_ema=wrapped)
    convert(path, tmp_path / "folder", SMALL)
    loaded = load_radio(tmp_path / "folder", device="cpu", dtype="float32").backbone
    assert torch.equal(loaded.blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight)
