"""What a training would do, without doing it: its weights, its steps, and the memory it would take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from seg_zero.errors import counted
from seg_zero.remote_sensing.model.decoder import Features
from seg_zero.remote_sensing.model.finetuning import set_trained
from seg_zero.remote_sensing.model.loss import segmentation_loss
from seg_zero.remote_sensing.model.network import RemoteSensingNetwork
from seg_zero.remote_sensing.tiles import LabelledTiles
from seg_zero.remote_sensing.training.settings import TrainSettings

_FLOAT = 4
_ADAM = 2  # moments beside each trained weight


@dataclass(frozen=True)
class Memory:
    """Bytes on one device. activations: what one part of a batch keeps for the backward pass, in the precision."""

    weights: int
    gradients: int
    moments: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.moments + self.activations


def memory_of(settings: TrainSettings, classes: int, processes: int = 1) -> Memory:
    """An estimate from the shapes alone, for a batch split among processes and parts.

    Weights, gradients and Adam's moments are exact in float32. Activations are the tensors that a forward pass on the
    meta device keeps; attention there keeps its matrix, as on a CPU, so that fused attention on a GPU takes less.
    """
    with torch.device("meta"):
        network = RemoteSensingNetwork(settings.model)
    set_trained(network, settings.finetune.clip, settings.finetune.dino)
    tiles = max(1, settings.schedule.batch_size // (processes * settings.schedule.accumulate))
    kept = _kept_bytes(network, settings, tiles, classes)
    trained = _count(network, trained=True) * _FLOAT
    half = 1 if settings.precision == "no" else 2
    return Memory(_count(network) * _FLOAT, trained, _ADAM * trained, kept // half)


def _count(network: nn.Module, trained: bool = False) -> int:
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad or not trained)


def _kept_bytes(network: RemoteSensingNetwork, settings: TrainSettings, tiles: int, classes: int) -> int:
    """Bytes of distinct tensors that autograd keeps, weights left out."""
    own = {id(weight) for weight in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        base = tensor if tensor._base is None else tensor._base
        if id(base) not in own:
            kept.setdefault(id(base), base)  # held, so that its number is not given to another
        return tensor

    side, text = settings.augmentation.side, settings.model.clip
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        pixels = torch.zeros(tiles, 3, side, side, device="meta")
        features: Features = network.features(pixels)
        sentences = torch.zeros(classes, text.text_length, text.text_width, device="meta")
        if any(weight.requires_grad for weight in network.clip.model.text_model.parameters()):
            for block in network.clip.model.text_model.encoder.layers:
                sentences = block(sentences, None)
        logits = network.decoder(features, torch.zeros(classes, text.embed, device="meta"))
        segmentation_loss(logits, torch.zeros(tiles, side, side, dtype=torch.uint8, device="meta"), settings.compat)
    return sum(tensor.numel() * tensor.element_size() for tensor in kept.values())


def gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def planned(settings: TrainSettings, tiles: LabelledTiles, validation: LabelledTiles | None, processes: int) -> str:
    """The plan in a few lines, for the terminal."""
    schedule = settings.schedule
    with torch.device("meta"):
        network = RemoteSensingNetwork(settings.model)
    set_trained(network, settings.finetune.clip, settings.finetune.dino)
    memory = memory_of(settings, len(tiles.classes), processes)
    epochs = schedule.steps * schedule.batch_size / len(tiles)
    lines = [
        f"weights      {_count(network) / 1e6:,.2f} M, of which trained {_count(network, trained=True) / 1e6:,.2f} M",
        f"tiles        {counted(len(tiles), 'tile')} to train on, "
        + ("no validation" if validation is None else f"{len(validation):,} to evaluate on"),
        f"classes      {len(tiles.classes)}: {', '.join(tiles.classes)}",
        f"steps        {schedule.steps:,} of {counted(schedule.batch_size, 'tile')}, {epochs:,.1f} epochs; "
        f"evaluation every {schedule.evaluate_every:,}",
        f"memory       about {gib(memory.total)} a device: weights {gib(memory.weights)}, gradients "
        f"{gib(memory.gradients)}, Adam {gib(memory.moments)}, activations up to {gib(memory.activations)}",
        f"checkpoints  {settings.output_dir}",
    ]
    return "\n".join(lines)
