"""Which weights are trained, and at which rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from torch import nn

from seg_zero.remote_sensing.model.network import RemoteSensingNetwork

ClipMode = Literal["attention", "freezeIMG", "full", "prompt", "frozen"]
DinoMode = Literal["attention", "full", "frozen"]
_NORMS = (nn.LayerNorm, nn.GroupNorm)


def clip_is_trained(name: str, mode: ClipMode) -> bool:
    """Whether a mode trains a weight of CLIP, by its name in transformers.

    attention: query and value matrices of every block of both towers; freezeIMG: those of the text tower, and its
    positions; full: all of every block; frozen: none, as prompt,
    which the published code knows without having prompts.
    """
    if mode == "freezeIMG":
        return name.startswith("text_model.") and (_is_qv(name) or "position_embedding" in name)
    if mode == "attention":
        return _is_qv(name)
    return mode == "full" and ".encoder.layers." in name


def _is_qv(name: str) -> bool:
    return name.endswith(("q_proj.weight", "v_proj.weight"))


def dino_is_trained(name: str, mode: DinoMode) -> bool:
    """Whether a mode trains a weight of DINO. attention: the joint matrices of the attention, and the positions."""
    return mode == "full" or (mode == "attention" and (name.endswith("attn.qkv.weight") or name == "pos_embed"))


def set_trained(network: RemoteSensingNetwork, clip: ClipMode, dino: DinoMode) -> None:
    """Switch gradients on for what is trained and off for the rest. RemoteCLIP is always frozen."""
    for name, weight in network.clip.model.named_parameters():
        weight.requires_grad_(clip_is_trained(name, clip))
    if network.remote is not None:
        network.remote.requires_grad_(False)
    if network.dino is not None:
        for name, weight in network.dino.model.named_parameters():
            weight.requires_grad_(dino_is_trained(name, dino))
    for module in network.new_modules():
        module.requires_grad_(True)


def _weights(module: nn.Module, norms: bool) -> Iterator[nn.Parameter]:
    """Trained weights of a module: those of its norms, or all others."""
    for part in module.modules():
        if isinstance(part, _NORMS) == norms:
            yield from (weight for weight in part.parameters(recurse=False) if weight.requires_grad)


def parameter_groups(
    network: RemoteSensingNetwork, rate: float, decay: float, clip_multiplier: float, dino_multiplier: float
) -> list[dict[str, Any]]:
    """Groups for an optimiser: ``name``, ``params``, ``lr`` and ``weight_decay``. Norms do not decay; none is empty."""
    towers = (
        ("new", list(network.new_modules()), rate),
        ("clip", [network.clip], rate * clip_multiplier),
        ("dino", [] if network.dino is None else [network.dino], rate * dino_multiplier),
    )
    groups = []
    for name, modules, own_rate in towers:
        for norms in (False, True):
            weights = [weight for module in modules for weight in _weights(module, norms)]
            if weights:
                label = f"{name}_norms" if norms else name
                groups.append(
                    {"name": label, "params": weights, "lr": own_rate, "weight_decay": 0.0 if norms else decay}
                )
    return groups
