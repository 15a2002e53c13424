"""A trained network as a folder: ``config.json`` and ``model.safetensors``; and a network from published files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from seg_zero.encoders.published_weights import load_clip, load_dino, load_remote_clip, read_state
from seg_zero.errors import InputError, one_line
from seg_zero.files import read_json, whole_file, write_json
from seg_zero.remote_sensing import typed
from seg_zero.remote_sensing.model.network import RemoteSensingNetwork
from seg_zero.remote_sensing.model.published import is_published, load_published
from seg_zero.remote_sensing.model.settings import VIT_B, VIT_L, ModelSettings

CONFIG, WEIGHTS, POINTER = "config.json", "model.safetensors", "checkpoints.json"
KIND = "rskt_seg"
EMBEDDED = "tiny"  # in place of a file: the embedded encoder, which knows the synthetic aerial world
EMBEDDED_FOLDER = Path(__file__).parents[2] / "models" / "tiny_aerial"


@dataclass(frozen=True)
class Pretrained:
    """Files to start from: OpenAI's CLIP, RemoteCLIP's ViT-B/32, DINO's ViT-B/8. Empty: random weights; "tiny": the
    embedded encoder, for size=tiny."""

    clip: str = ""
    remote: str = ""
    dino: str = ""


def save_network(network: RemoteSensingNetwork, folder: Path, about: Mapping[str, Any] | None = None) -> None:
    """Write the folder's two files. about: what else the configuration shall say, such as the classes."""
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with whole_file(folder / WEIGHTS) as partial:
        save_file(weights, partial)
    write_json(folder / CONFIG, {"kind": KIND, "model": typed.plain(network.settings), **(about or {})})


def _folder_of(path: Path) -> Path:
    """The folder with the weights: ``path``, or the best or last checkpoint of the training in it."""
    if not (path / POINTER).is_file():
        return path
    try:
        pointer = read_json(path / POINTER)
        return path / str(pointer["best"] or pointer["last"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path / POINTER} cannot be read ({one_line(error)}); give a folder step_*") from error


def load_network(
    path: str | Path, settings: ModelSettings | None = None
) -> tuple[RemoteSensingNetwork, dict[str, Any]]:
    """The network of a folder of ours, of a training's folder (its best checkpoint), or of a published checkpoint file.

    settings: of a published checkpoint; by default those that its weights show. Returns the network, in evaluation
    mode on the CPU, and the folder's configuration. Raises InputError for what is no such thing.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"remote-sensing model {path} is not there; give a folder of a training, or a published file")
    if path.is_file():
        state = read_state(path, "checkpoint")
        found = published_settings(state, str(path)) if settings is None else settings
        network = RemoteSensingNetwork(found)
        load_published(network, state, f"checkpoint {path}")
        return network.eval(), {}
    folder = _folder_of(path)
    try:
        config = read_json(folder / CONFIG)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder / CONFIG} cannot be read ({one_line(error)}); give a folder of a training"
        ) from error
    if not isinstance(config, dict) or config.get("kind") != KIND:
        raise InputError(f"{folder} is no remote-sensing model (no kind {KIND!r} in {CONFIG}); give such a folder")
    network = RemoteSensingNetwork(typed.read(ModelSettings, config.get("model"), "model"))
    fill_network(network, folder)
    return network.eval(), config


def fill_network(network: RemoteSensingNetwork, folder: Path) -> None:
    """Load the weights of a folder of ours. Raises InputError if they are damaged or of another network."""
    file = folder / WEIGHTS
    try:
        state = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} cannot be read ({one_line(error)}); copy the folder again") from error
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{file} does not fit {CONFIG} beside it ({one_line(error)})") from error


def published_settings(state: Mapping[str, torch.Tensor], what: str) -> ModelSettings:
    """The settings of a published checkpoint, as its weights show them."""
    if not is_published(state):
        raise InputError(f"checkpoint {what} is not one of RSKT-Seg; give one, or a folder of a training")
    width = len(state["sem_seg_head.predictor.clip_model.visual.class_embedding"])
    base = {768: VIT_B, 1024: VIT_L}.get(width)
    if base is None:
        raise InputError(
            f"checkpoint {what} has a CLIP of width {width}; published ones have 768 or 1024: give its size"
        )
    head = "sem_seg_head.predictor.transformer."
    names = {name.removeprefix(head) for name in state if name.startswith(head)}
    channels = state[f"{head}conv1.weight"].shape[1]
    dino = any(name.startswith("dino_model.") for name in state)
    separate = "fusion_corr.weight" in names
    return replace(
        base,
        layers=1 + max(int(name.split(".")[1]) for name in names if name.startswith("layers.")),
        rotate=channels >= 4 or (dino and not separate and channels == 1),
        fusion="separate" if separate or not dino else "mean" if channels == 1 else "concatenation",
        dino=base.dino if dino else None,
        remote=base.remote
        if any(name.startswith("CLIP_decoder_guidance_projection_remote") for name in names)
        else None,
    )


def new_network(settings: ModelSettings, start: Pretrained) -> RemoteSensingNetwork:
    """A network to train. Raises InputError for a file that does not fit, and for one of a source that is off."""
    network = RemoteSensingNetwork(settings)
    for name, file, part in (("remote", start.remote, network.remote), ("dino", start.dino, network.dino)):
        if file and file != EMBEDDED and part is None:  # a recipe names the embedded ones, whatever is switched off
            raise InputError(f"pretrained.{name}={file} is given, but model.{name} is off; leave one out")
    if start.clip:
        load_clip(network.clip, _pretrained("clip", start.clip))
    if start.remote and network.remote is not None:
        load_remote_clip(network.remote, _pretrained("remote", start.remote))
    if start.dino and network.dino is not None:
        load_dino(network.dino, _pretrained("dino", start.dino))
    return network


def _pretrained(name: str, given: str) -> Path:
    return EMBEDDED_FOLDER / f"{name}.safetensors" if given == EMBEDDED else Path(given).expanduser()
