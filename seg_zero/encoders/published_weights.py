"""Checkpoint files of OpenAI's CLIP, RemoteCLIP and DINO: read without running code, named as the towers here."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from seg_zero.encoders.dense_clip import ClipSettings, DenseClip, VisionGuide, VisionSettings
from seg_zero.encoders.dino_map import DinoMap
from seg_zero.errors import InputError, one_line

State = dict[str, torch.Tensor]
_BOXES = ("state_dict", "model", "teacher")  # keys under which checkpoints keep their weights
_PREFIXES = ("module.", "backbone.")
# Sizes that OpenAI's archives keep beside the weights, and masks that follow from them.
_NOT_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "attn_mask"}
_QKV = re.compile(r"(.*\.)attn\.(?:in_proj_(weight|bias)|([qkv])_proj_weight)")
# OpenAI's name, transformers' name, whether the matrix is stored the other way round.
_RENAMED: tuple[tuple[str, str, bool], ...] = (
    ("visual.class_embedding", "vision_model.embeddings.class_embedding", False),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight", False),
    ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight", False),
    ("visual.ln_pre.", "vision_model.pre_layrnorm.", False),
    ("visual.ln_post.", "vision_model.post_layernorm.", False),
    ("visual.proj", "visual_projection.weight", True),
    ("visual.transformer.resblocks.", "vision_model.encoder.layers.", False),
    ("transformer.resblocks.", "text_model.encoder.layers.", False),
    ("token_embedding.", "text_model.embeddings.token_embedding.", False),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight", False),
    ("ln_final.", "text_model.final_layer_norm.", False),
    ("text_projection", "text_projection.weight", True),
    ("logit_scale", "logit_scale", False),
)
_IN_BLOCK = (
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
    (".attn.out_proj.", ".self_attn.out_proj."),
)


def read_state(path: Path, what: str) -> State:
    """The weights in a file: safetensors, torch's, or a TorchScript archive; of a folder: its ``model.safetensors``.

    The keys "state_dict", "model" and "teacher" are opened, the prefixes "module." and "backbone." go.
    Raises InputError for a file that is missing, damaged, or holds objects besides tensors.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{what} {file} is not there; give a checkpoint file, or a folder with model.safetensors")
    try:
        saved: Any = load_file(file) if file.suffix == ".safetensors" else _torch_file(file)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, SafetensorError) as error:
        raise InputError(f"{what} {file} is no readable checkpoint ({one_line(error)}); download it again") from error
    except Exception as error:  # the unpickler's own type: objects that are no tensors, or no pickle at all
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise InputError(
                f"{what} {file} holds more than weights ({named[1]}), which could run code; give a file of weights"
            ) from error
        raise InputError(f"{what} {file} is no checkpoint of torch or safetensors; give a file of weights") from error
    while isinstance(saved, Mapping) and (box := next((b for b in _BOXES if isinstance(saved.get(b), Mapping)), None)):
        saved = saved[box]
    if not isinstance(saved, Mapping):
        raise InputError(f"{what} {file} holds {type(saved).__name__} and no weights; give a state dict")
    state = {str(name): value for name, value in saved.items() if isinstance(value, torch.Tensor)}
    for prefix in _PREFIXES:
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    if not state:
        raise InputError(f"{what} {file} holds no tensor; give a state dict")
    return state


def _torch_file(file: Path) -> Any:
    packed = zipfile.is_zipfile(file)
    if packed:
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith("constants.pkl") for name in archive.namelist()):  # TorchScript, as OpenAI's files
                return torch.jit.load(str(file), map_location="cpu").state_dict()
    return torch.load(file, map_location="cpu", weights_only=True, mmap=packed)


def transformers_names(state: Mapping[str, torch.Tensor]) -> State:
    """Weights under OpenAI's names for CLIP, joint or split projections, under transformers'; those stay."""
    found: State = {}
    for name, value in state.items():
        if name in _NOT_WEIGHTS:
            continue
        for old, new, turned in _RENAMED:
            if name == old or (old.endswith(".") and name.startswith(old)):
                name, value = new + name[len(old) :], value.t() if turned else value
                break
        if (joint := _QKV.fullmatch(name)) is not None:
            block, kind, single = joint.groups()
            parts = {single: value} if single else dict(zip("qkv", value.chunk(3), strict=True))
            for letter, part in parts.items():
                found[f"{block}self_attn.{letter}_proj.{kind or 'weight'}"] = part
            continue
        for old, new in _IN_BLOCK:
            name = name.replace(old, new)
        found[name] = value
    return {name: value.contiguous().float() for name, value in found.items()}


def _size(width: int, patch: int, layers: int) -> str:
    return f"width {width}, patches of {patch} pixels, {layers} blocks"


def _blocks(state: Mapping[str, torch.Tensor], prefix: str) -> int:
    return 1 + max((int(name[len(prefix) :].split(".")[0]) for name in state if name.startswith(prefix)), default=-1)


def _check_vision(state: State, wanted: VisionSettings, embed: int | None, what: str) -> None:
    """Raises InputError if the weights are no image tower of this size."""
    patches = state.get("vision_model.embeddings.patch_embedding.weight")
    table = state.get("vision_model.embeddings.position_embedding.weight")
    if patches is None or table is None:
        raise InputError(f"{what} has no image tower of CLIP (its first weight is {next(iter(state))}); give a CLIP")
    width, _, patch, _ = patches.shape
    layers = _blocks(state, "vision_model.encoder.layers.")
    here, there = _size(width, patch, layers), _size(wanted.width, wanted.patch, wanted.layers)
    grid = round((len(table) - 1) ** 0.5)
    if here != there:
        raise InputError(f"{what} is a CLIP of {here}; the settings want {there}: give that file, or the other model")
    if grid != wanted.native // wanted.patch:
        raise InputError(
            f"{what} is a CLIP for pictures of {grid * patch} pixels; the settings want {wanted.native}: give that file"
        )
    projection = state.get("visual_projection.weight")
    if embed is not None and projection is not None and len(projection) != embed:
        raise InputError(f"{what} has vectors of {len(projection)} numbers, not {embed}; give that file")


def fill(module: torch.nn.Module, state: Mapping[str, torch.Tensor], what: str, unused: str = r"$^") -> None:
    """Load weights, all of them; names that match ``unused`` may be left over. Raises InputError otherwise."""
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    extra = [name for name in state if name not in own and not re.match(unused, name)]
    if missing or extra:
        said = f"lacks {missing[0]}" if missing else f"has {extra[0]}, which has no place"
        raise InputError(f"{what} {said} ({len(missing)} missing, {len(extra)} unknown); give the matching checkpoint")
    for name, value in own.items():
        if value.shape != state[name].shape:
            raise InputError(
                f"{what}: {name} is {tuple(state[name].shape)}, not {tuple(value.shape)}; give the matching checkpoint"
            )
    module.load_state_dict({name: state[name] for name in own})


def load_clip(tower: DenseClip, path: Path) -> None:
    """Fill a dense CLIP from a file of OpenAI's CLIP, or a folder of transformers'. Raises InputError."""
    fill_clip(tower, transformers_names(read_state(path, "CLIP")), f"CLIP {path}")


def fill_clip(tower: DenseClip, state: State, what: str) -> None:
    """The same from weights under transformers' names."""
    settings: ClipSettings = tower.settings
    _check_vision(state, settings.vision, settings.embed, what)
    fill(tower.model, state, what, unused=r".*position_ids")


def load_remote_clip(guide: VisionGuide, path: Path) -> None:
    """Fill the first blocks of RemoteCLIP's image tower. Raises InputError."""
    fill_remote_clip(guide, transformers_names(read_state(path, "RemoteCLIP")), f"RemoteCLIP {path}")


def fill_remote_clip(guide: VisionGuide, state: State, what: str) -> None:
    """The same from weights under transformers' names."""
    _check_vision(state, guide.settings, None, what)
    vision = {name.removeprefix("vision_model."): v for name, v in state.items() if name.startswith("vision_model.")}
    fill(guide.model, vision, what, unused=r"encoder\.layers\.|post_layernorm\.|.*position_ids")


def load_dino(tower: DinoMap, path: Path) -> None:
    """Fill a DINO from a file of facebookresearch/dino, or one trained on. Raises InputError."""
    fill_dino(tower, read_state(path, "DINO"), f"DINO {path}")


def fill_dino(tower: DinoMap, state: State, what: str) -> None:
    """The same from weights under DINO's names."""
    patches, wanted = state.get("patch_embed.proj.weight"), tower.settings
    if patches is None or patches.ndim != 4:
        raise InputError(f"{what} has no patch_embed.proj.weight (its first is {next(iter(state))}); give DINO's ViT")
    here = _size(patches.shape[0], patches.shape[2], _blocks(state, "blocks."))
    there = _size(wanted.width, wanted.patch, wanted.layers)
    if here != there:
        raise InputError(f"{what} has {here}; the settings want {there}: give that file")
    fill(tower.model, {n: v.float() for n, v in state.items()}, what, unused=r"head\.")
