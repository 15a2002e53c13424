"""Checkpoint files: OpenAI's, RemoteCLIP's, DINO's, published RSKT-Seg's, our own folders; and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.remote_sensing import SMALL, small
from safetensors.torch import save_file

from seg_zero.encoders.published_weights import load_clip, load_dino, load_remote_clip, read_state
from seg_zero.errors import InputError
from seg_zero.remote_sensing import typed
from seg_zero.remote_sensing.model.files import Pretrained, load_network, new_network, published_settings, save_network
from seg_zero.remote_sensing.model.network import RemoteSensingNetwork
from seg_zero.remote_sensing.model.published import load_published
from seg_zero.remote_sensing.model.settings import VIT_B, VIT_L, ModelSettings

State = dict[str, torch.Tensor]
_BLOCK = (
    ("self_attn.out_proj.", "attn.out_proj."),
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
)


def network(settings: ModelSettings = SMALL) -> RemoteSensingNetwork:
    torch.manual_seed(5)
    return RemoteSensingNetwork(settings).eval()


def openai_state(clip: State, split: bool = False) -> State:
    """A CLIP of transformers under OpenAI's names, with q, k and v joined, or split as in published RSKT-Seg."""
    found: State = {}
    for name, value in clip.items():
        joint = re.fullmatch(r"(.*)layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", name)
        tower = "visual.transformer" if name.startswith("vision_model") else "transformer"
        if joint is not None:
            start = f"{tower}.resblocks.{joint[2]}.attn."
            if split and joint[4] == "weight":
                found[f"{start}{joint[3]}_proj_weight"] = value
            elif joint[3] == "q":
                parts = [clip[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
                found[f"{start}in_proj_{joint[4]}"] = torch.cat(parts)
            continue
        block = re.fullmatch(r".*layers\.(\d+)\.(.*)", name)
        if block is not None:
            rest = block[2]
            for ours, theirs in _BLOCK:
                rest = rest.replace(ours, theirs)
            found[f"{tower}.resblocks.{block[1]}.{rest}"] = value
        else:
            found[_outer(name)] = value.t() if name.endswith("_projection.weight") else value
    return found


def _outer(name: str) -> str:
    names = {
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "visual_projection.weight": "visual.proj",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_projection.weight": "text_projection",
        "logit_scale": "logit_scale",
    }
    starts = {
        "vision_model.pre_layrnorm.": "visual.ln_pre.",
        "vision_model.post_layernorm.": "visual.ln_post.",
        "text_model.final_layer_norm.": "ln_final.",
    }
    for ours, theirs in starts.items():
        name = name.replace(ours, theirs)
    return names.get(name, name)


def remote_state(guide: State, blocks: int) -> State:
    """RemoteCLIP: the guide's blocks, more blocks above, and a text tower."""
    whole = {f"vision_model.{name}": value for name, value in guide.items()}
    last = max(int(re.findall(r"layers\.(\d+)", name)[0]) for name in whole if "layers" in name)
    for block in range(last + 1, blocks):
        copied = {name: value for name, value in whole.items() if f"layers.{last}." in name}
        whole |= {name.replace(f"layers.{last}.", f"layers.{block}."): value for name, value in copied.items()}
    return {**openai_state(whole), "token_embedding.weight": torch.zeros(3, 4), "logit_scale": torch.zeros(())}


def decoder_state(decoder: State) -> State:
    """Our decoder under the published names."""
    rules = (
        (r"(layers\.\d+)\.spatial\.depthwise", r"\1.spatial_fusion.sa.mlp.dwconv.dwconv"),
        (r"(layers\.\d+)\.spatial\.", r"\1.spatial_fusion.sa."),
        (r"(layers\.\d+)\.classes\.", r"\1.class_fusion.sa."),
        (r"sa\.(q|k|v)\.", r"sa.attention.\1."),
        (r"sa\.out\.", "sa.attention.proj."),
        (r"sa\.reduce_([kv])\.", r"sa.attention.sr_\1."),
        (r"sa\.norm_([kv])\.", r"sa.attention.norm_\1."),
        (r"mlp\.gate\.", "mlp.fc1."),
        (r"mlp\.value\.", "mlp.fc2."),
        (r"mlp\.out\.", "mlp.fc3."),
        (r"^image_guide", "guidance_projection"),
        (r"^text_guide", "text_guidance_projection"),
        (r"^clip_reduction\.stages", "CLIP_decoder_guidance_projection"),
        (r"^remote_reduction\.stages", "CLIP_decoder_guidance_projection_remote"),
        (r"^dino_reduction\.stages", "DINO_decoder_guidance_projection"),
        (r"^cost_fusion\.clip", "conv1"),
        (r"^cost_fusion\.dino", "conv2"),
        (r"^cost_fusion\.both", "fusion_corr"),
        (r"^up([12])\.up", r"Fusiondecoder\1.up"),
        (r"^up([12])\.mix", r"Fusiondecoder\1.conv.double_conv"),
    )
    found = {}
    for name, value in decoder.items():
        for pattern, theirs in rules:
            name = re.sub(pattern, theirs, name)
        found[name] = value
    return found


def published(made: RemoteSensingNetwork) -> State:
    head, found = "sem_seg_head.predictor.", {}
    clip = openai_state(made.clip.model.state_dict(), split=True)
    found |= {f"{head}clip_model.{name}": value for name, value in clip.items()}
    found |= {f"{head}transformer.{name}": value for name, value in decoder_state(made.decoder.state_dict()).items()}
    outer = {"clip_up.by2": "upsample1", "clip_up.by4": "upsample2"}
    if made.remote is not None and made.settings.remote is not None:
        remote = remote_state(made.remote.model.state_dict(), made.settings.remote.layers)
        found |= {f"{head}clip_model_remote.{name}": value for name, value in remote.items()}
        outer |= {"remote_up.by2": "upsample1_remote", "remote_up.by4": "upsample2_remote"}
    if made.dino is not None:
        found |= {f"dino_model.{name}": value for name, value in made.dino.model.state_dict().items()}
        outer |= {"dino_up.keep": "dino_decod_proj1", "dino_up.by2": "dino_decod_proj2"}
        outer |= {"dino_up.down": "dino_down_sample"}
    for ours, theirs in outer.items():
        found |= {f"{theirs}.{kind}": made.get_parameter(f"{ours}.{kind}").detach() for kind in ("weight", "bias")}
    return found


def equal(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("kind", ["pt", "boxed", "safetensors", "torchscript", "folder"])
def test_clip_from_each_kind_of_file(kind: str, tmp_path: Path) -> None:
    made, other = network().clip, RemoteSensingNetwork(SMALL).clip
    state = {name: value.clone() for name, value in openai_state(made.model.state_dict()).items()}
    path = tmp_path / "clip.pt"
    if kind == "pt":
        torch.save({**state, "input_resolution": torch.tensor(32)}, path)
    elif kind == "boxed":
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    elif kind == "torchscript":
        holder = torch.nn.Module()
        for name, value in state.items():
            parent = holder
            *above, last = name.split(".")
            for part in above:
                if not hasattr(parent, part):
                    parent.add_module(part, torch.nn.Module())
                parent = getattr(parent, part)
            parent.register_buffer(last, value.contiguous())
        torch.jit.save(torch.jit.script(holder), str(path))
    else:
        path = tmp_path / ("clip.safetensors" if kind == "safetensors" else "model.safetensors")
        held = made.model.state_dict() if kind == "folder" else state
        save_file({name: value.contiguous() for name, value in held.items()}, path)
        path = tmp_path if kind == "folder" else path
    load_clip(other, path)
    assert equal(made, other)


def test_remote_clip_leaves_out_what_no_picture_reaches(tmp_path: Path) -> None:
    made, other = network().remote, RemoteSensingNetwork(SMALL).remote
    assert made is not None and other is not None
    torch.save(remote_state(made.model.state_dict(), 3), tmp_path / "remote.pt")
    load_remote_clip(other, tmp_path / "remote.pt")
    assert equal(made, other)


@pytest.mark.parametrize("prefix", ["", "module.backbone.", "backbone."])
def test_dino_as_its_training_saves_it(prefix: str, tmp_path: Path) -> None:
    made, other = network().dino, RemoteSensingNetwork(SMALL).dino
    assert made is not None and other is not None
    state = {f"{prefix}{name}": value for name, value in made.model.state_dict().items()}
    head = {f"{prefix.removesuffix('backbone.')}head.mlp.0.weight": torch.zeros(2)}
    torch.save({"teacher": {**state, **head}, "student": {}, "epoch": 1}, tmp_path / "dino.pth")
    load_dino(other, tmp_path / "dino.pth")
    assert equal(made, other)


@pytest.mark.parametrize("settings", [SMALL, small(remote=None), small(dino=None), small(fusion="mean", layers=2)])
def test_published_checkpoint(settings: ModelSettings, tmp_path: Path) -> None:
    made = network(settings)
    torch.save({"model": published(made), "iteration": 29999}, tmp_path / "model_final.pth")
    other, config = load_network(tmp_path / "model_final.pth", settings)
    assert equal(made, other) and config == {}


@pytest.mark.parametrize(
    "settings",
    [
        VIT_B,
        VIT_L,
        replace(VIT_B, layers=5, fusion="mean"),
        replace(VIT_B, fusion="concatenation"),
        replace(VIT_B, dino=None),
        replace(VIT_B, remote=None, rotate=False),
        replace(VIT_B, dino=None, rotate=False),
    ],
)
def test_settings_of_a_published_checkpoint_from_its_weights(settings: ModelSettings) -> None:
    with torch.device("meta"):
        state = published(RemoteSensingNetwork(settings))
    assert published_settings(state, "model_final.pth") == settings
    clip = [name for name in state if name.startswith("sem_seg_head.predictor.clip_model.")]
    assert len(clip) == (350 if settings.clip == VIT_B.clip else 518)


def test_own_folder(tmp_path: Path) -> None:
    made = network(small(aggregator="cat_seg"))
    save_network(made, tmp_path / "model", {"classes": ["road"]})
    other, config = load_network(tmp_path / "model")
    assert equal(made, other) and other.settings == made.settings and config["classes"] == ["road"]
    assert not other.training


def wide(**changes: int) -> ModelSettings:
    return small(clip=replace(SMALL.clip, vision=replace(SMALL.clip.vision, **changes)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (wide(width=32), "width 16, patches of 8 pixels, 3 blocks; the settings want width 32, patches of 8 pixels"),
        (wide(layers=4), "3 blocks; the settings want width 16, patches of 8 pixels, 4 blocks"),
        (wide(native=64), "for pictures of 32 pixels; the settings want 64"),
        (small(clip=replace(SMALL.clip, embed=8)), "vectors of 16 numbers, not 8"),
        (small(layers=2), "has 1 layers, the settings 2; set layers=1"),
        (small(hidden=32), "is .*, not .*; give the matching checkpoint"),
    ],
)
def test_a_checkpoint_of_another_size_says_which(settings: ModelSettings, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_published(RemoteSensingNetwork(settings), published(network()), "checkpoint x")


def test_a_clip_given_as_dino_and_the_reverse(tmp_path: Path) -> None:
    made = network()
    assert made.dino is not None
    torch.save(openai_state(made.clip.model.state_dict()), tmp_path / "clip.pt")
    torch.save(made.dino.model.state_dict(), tmp_path / "dino.pt")
    with pytest.raises(InputError, match="no patch_embed"):
        load_dino(made.dino, tmp_path / "clip.pt")
    with pytest.raises(InputError, match="no image tower of CLIP"):
        load_clip(made.clip, tmp_path / "dino.pt")
    with pytest.raises(InputError, match=r"model\.dino is off"):
        new_network(small(dino=None), Pretrained(dino=str(tmp_path / "dino.pt")))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not there"),
        (b"", "no readable checkpoint"),
        (b"PK\x03\x04 cut short", "no checkpoint of torch or safetensors|no readable checkpoint"),
        (b"\x89PNG\r\n\x1a\n", r"weights.pt is no checkpoint of torch or safetensors; give a file of weights"),
        ([1, 2], "holds list and no weights"),
        ({"epoch": 3}, "holds no tensor"),
        ({"x": Path("x")}, r"more than weights \(pathlib.*\), which could run code"),
    ],
)
def test_files_that_are_no_weights(content: object, said: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=said):
        read_state(path, "CLIP")


def test_folders_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        load_network(tmp_path / "none")
    with pytest.raises(InputError, match="cannot be read"):
        load_network(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="no remote-sensing model"):
        load_network(tmp_path)
    (tmp_path / "checkpoints.json").write_text('{"last": ')
    with pytest.raises(InputError, match=r"checkpoints.json cannot be read .*; give a folder step_"):
        load_network(tmp_path)
    save_network(network(), tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        load_network(tmp_path / "model")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"layer": 3}, "unknown key 'model.layer'; did you mean layers?"),
        ({"layers": "3"}, "model.layers='3' is not a whole number"),
        ({"layers": True}, "model.layers=True is not a whole number"),
        ({"decoder": [64]}, "model.decoder=.* is not 2 values"),
        ({"rotate": 1}, "model.rotate=1 is not true or false"),
        ({"clip": {"embed": 3}}, "model.clip.vision is not set"),
        ({"clip": 3}, "model.clip=3 is no section"),
    ],
)
def test_settings_that_cannot_be_read(values: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        typed.read(ModelSettings, values, "model")


@pytest.mark.parametrize("settings", [VIT_B, VIT_L, SMALL, small(dino=None, remote=None)])
def test_settings_come_back(settings: ModelSettings) -> None:
    assert typed.read(ModelSettings, typed.plain(settings)) == settings
