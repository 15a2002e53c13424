"""Published RSKT-Seg checkpoints: which of their weights is which of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from seg_zero.encoders.published_weights import State, fill, fill_clip, fill_dino, fill_remote_clip, transformers_names
from seg_zero.errors import InputError
from seg_zero.remote_sensing.model.network import RemoteSensingNetwork

_HEAD = "sem_seg_head.predictor."
_CLIP, _REMOTE, _DINO, _DECODER = (
    f"{_HEAD}clip_model.",
    f"{_HEAD}clip_model_remote.",
    "dino_model.",
    f"{_HEAD}transformer.",
)
# Patterns from the start of a published name to the start of ours.
_DECODER_NAMES = (
    (r"(layers\.\d+)\.spatial_fusion\.sa\.mlp\.dwconv\.dwconv\.", r"\1.spatial.depthwise."),
    (r"(layers\.\d+)\.spatial_fusion\.sa\.", r"\1.spatial."),
    (r"(layers\.\d+)\.class_fusion\.sa\.", r"\1.classes."),
    (r"guidance_projection\.", "image_guide."),
    (r"text_guidance_projection\.", "text_guide."),
    (r"CLIP_decoder_guidance_projection_remote\.", "remote_reduction.stages."),
    (r"CLIP_decoder_guidance_projection\.", "clip_reduction.stages."),
    (r"DINO_decoder_guidance_projection\.", "dino_reduction.stages."),
    (r"conv1\.", "cost_fusion.clip."),
    (r"conv2\.", "cost_fusion.dino."),
    (r"fusion_corr\.", "cost_fusion.both."),
    (r"Fusiondecoder([12])\.up\.", r"up\1.up."),
    (r"Fusiondecoder([12])\.conv\.double_conv\.", r"up\1.mix."),
)
_LAYER_NAMES = (
    ("attention.sr_k.", "reduce_k."),
    ("attention.sr_v.", "reduce_v."),
    ("attention.norm_k.", "norm_k."),
    ("attention.norm_v.", "norm_v."),
    ("attention.proj.", "out."),
    ("attention.", ""),
    ("mlp.fc1.", "mlp.gate."),
    ("mlp.fc2.", "mlp.value."),
    ("mlp.fc3.", "mlp.out."),
)
_OUTER_NAMES = {
    "upsample1": "clip_up.by2",
    "upsample2": "clip_up.by4",
    "upsample1_remote": "remote_up.by2",
    "upsample2_remote": "remote_up.by4",
    "dino_decod_proj1": "dino_up.keep",
    "dino_decod_proj2": "dino_up.by2",
    "dino_down_sample": "dino_up.down",
}


def decoder_names(state: Mapping[str, torch.Tensor]) -> State:
    """The decoder's weights under our names."""
    found: State = {}
    for published, value in state.items():
        name = published
        for pattern, ours in _DECODER_NAMES:
            name, changed = re.subn(f"^{pattern}", ours, name)
            if changed:
                break
        if name.startswith("layers."):
            for pattern, ours in _LAYER_NAMES:
                name = name.replace(f".{pattern}", f".{ours}")
        found[name] = value
    return found


def is_published(state: Mapping[str, torch.Tensor]) -> bool:
    return any(name.startswith(_DECODER) for name in state)


def _below(state: Mapping[str, torch.Tensor], prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def load_published(network: RemoteSensingNetwork, state: Mapping[str, torch.Tensor], what: str) -> None:
    """Fill the network from a published state dict; all weights of it must be there.

    Raises InputError for a checkpoint of another size, saying which it is, or with other sources or layers.
    """
    if not is_published(state):
        raise InputError(f"{what} is no checkpoint of RSKT-Seg (it has no {_DECODER}*); give one")
    fill_clip(network.clip, transformers_names(_below(state, _CLIP)), what)
    if network.remote is not None:
        remote = _below(state, _REMOTE)
        _check_there(remote, _REMOTE, what)
        fill_remote_clip(network.remote, transformers_names(remote), what)
    if network.dino is not None:
        dino = _below(state, _DINO)
        _check_there(dino, _DINO, what)
        fill_dino(network.dino, dino, what)
    decoder = decoder_names(_below(state, _DECODER))
    layers = 1 + max((int(name.split(".")[1]) for name in decoder if name.startswith("layers.")), default=-1)
    if layers != network.settings.layers:
        raise InputError(f"{what} has {layers} layers, the settings {network.settings.layers}; set layers={layers}")
    fill(network.decoder, decoder, what)
    outer: State = {}
    for published, ours in _OUTER_NAMES.items():
        outer |= {f"{ours}.{name}": value for name, value in _below(state, f"{published}.").items()}
    for part in ("clip_up", "remote_up", "dino_up"):
        module = getattr(network, part)
        if module is not None:
            fill(module, _below(outer, f"{part}."), what)


def _check_there(part: State, prefix: str, what: str) -> None:
    if not part:
        raise InputError(f"{what} has no {prefix}*; switch this source off in the settings, or give another checkpoint")
