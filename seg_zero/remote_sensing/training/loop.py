"""The training loop, on accelerate: one process or many, in single or mixed precision."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import set_seed
from torch import nn

from seg_zero.errors import InputError
from seg_zero.remote_sensing.class_names import check_names
from seg_zero.remote_sensing.model.files import load_network, new_network
from seg_zero.remote_sensing.model.finetuning import parameter_groups, set_trained
from seg_zero.remote_sensing.model.loss import segmentation_loss
from seg_zero.remote_sensing.model.network import RemoteSensingNetwork
from seg_zero.remote_sensing.tiles import LabelledTiles
from seg_zero.remote_sensing.training import checkpoints
from seg_zero.remote_sensing.training.evaluation import evaluate
from seg_zero.remote_sensing.training.log import TrainingLog
from seg_zero.remote_sensing.training.samples import Samples, loader
from seg_zero.remote_sensing.training.settings import TrainSettings

Say = Callable[[str], None]


@dataclass(frozen=True)
class Summary:
    """How a training ended: its last step, the loss there, and the best mIoU with its checkpoint, if evaluated."""

    steps: int
    loss: float
    best_miou: float | None
    folder: Path


def rate_factor(step: int, steps: int) -> float:
    """The rate of a step, counted from 0, as a fraction of the first: a cosine that falls to 0."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def build(settings: TrainSettings) -> RemoteSensingNetwork:
    """The network to train, with gradients switched on for what is trained."""
    if settings.start_from:
        network, _ = load_network(settings.start_from, settings.model)
        if network.settings != settings.model:
            raise InputError(
                f"start_from={settings.start_from} has other settings than model.*; give those in its config.json"
            )
    else:
        network = new_network(settings.model, settings.pretrained)
    set_trained(network, settings.finetune.clip, settings.finetune.dino)
    return network


def optimiser_of(network: RemoteSensingNetwork, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW with a group for each rate and decay."""
    chosen = settings.optimiser
    tuned = settings.finetune
    groups = parameter_groups(network, chosen.rate, chosen.weight_decay, tuned.clip_multiplier, tuned.dino_multiplier)
    for group in groups:
        group["first_lr"] = group["lr"]
    return torch.optim.AdamW(groups)


def train(
    settings: TrainSettings, tiles: LabelledTiles, validation: LabelledTiles | None = None, say: Say = print
) -> Summary:
    """Train, or go on where the run in ``settings.output_dir`` stopped, and evaluate on the way.

    A resumed run takes the same steps as one that was never interrupted. Raises InputError for a run of other settings
    in that folder, for tiles that are none, and for batches that cannot be split.
    """
    check_tiles(tiles, "data.train")
    if validation is not None:
        check_tiles(validation, "data.validation")
    accelerator = Accelerator(
        mixed_precision=settings.precision,
        cpu=settings.device == "cpu",
        # The query matrix of CLIP's last image block is trained by name, but that block has no attention.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    run = _Run(settings, accelerator, tiles, validation, say)
    try:
        return run.run()
    finally:
        run.log.close()
        accelerator.free_memory()


def check_tiles(tiles: LabelledTiles, name: str) -> None:
    """Raises InputError for an empty data set, and for class names that are empty or alike."""
    if not len(tiles):
        raise InputError(f"{name} has no tile; give another folder or split")
    check_names(tiles.classes)


def check_batches(settings: TrainSettings, processes: int) -> None:
    """Raises InputError if a batch cannot be split among the processes and their parts."""
    parts = processes * settings.schedule.accumulate
    if settings.schedule.batch_size % parts:
        raise InputError(
            f"schedule.batch_size={settings.schedule.batch_size} cannot be split among {processes} processes in "
            f"{settings.schedule.accumulate} parts; give a multiple of {parts}"
        )


class _Run:
    """One run of a training in this process."""

    def __init__(
        self,
        settings: TrainSettings,
        accelerator: Accelerator,
        tiles: LabelledTiles,
        validation: LabelledTiles | None,
        say: Say,
    ) -> None:
        check_batches(settings, accelerator.num_processes)
        self.settings, self.accelerator, self.tiles, self.validation = settings, accelerator, tiles, validation
        self.out = Path(settings.output_dir).expanduser()
        if settings.tf32 and accelerator.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        set_seed(settings.seed)
        network = build(settings)
        optimiser = optimiser_of(network, settings)
        pointer = checkpoints.read_pointer(self.out)
        self.step, state = 0, None
        if pointer is not None:
            state = checkpoints.resume(self.out, pointer, network)
            self._check_same(state)
            optimiser.load_state_dict(state["optimiser"])
            self.step = int(state["step"])
        self.network = network
        self.model: nn.Module
        self.model, self.optimiser = accelerator.prepare(network, optimiser)
        if state is not None and accelerator.scaler is not None and state["scaler"] is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
        self.log = TrainingLog(self.out, self.step, settings.schedule.steps, say, accelerator.is_main_process)
        if self.step:
            self.log.say(f"resuming at step {self.step:,} of {settings.schedule.steps:,} in {self.out}")

    def _check_same(self, state: dict[str, Any]) -> None:
        """What a run may not change under way: the order of its samples and the course of its rate."""
        here = self._identity()
        for name, value in state["identity"].items():
            if here[name] != value:
                raise InputError(
                    f"{self.out} holds a run with {name}={value}, not {here[name]}; give that, or another output_dir"
                )

    def _identity(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "schedule.steps": settings.schedule.steps,
            "schedule.batch_size": settings.schedule.batch_size,
            "seed": settings.seed,
            "finetune.clip": settings.finetune.clip,
            "finetune.dino": settings.finetune.dino,
            "classes": ", ".join(self.tiles.classes),
        }

    def run(self) -> Summary:
        schedule, loss = self.settings.schedule, float("nan")
        batches = self._batches()
        while self.step < schedule.steps:
            loss, norm = self._one_step(batches)
            self.step += 1
            miou = None
            last = self.step == schedule.steps
            if self.step % schedule.log_every == 0 or last:
                self.log.step(self.step, loss, norm, self.optimiser.param_groups[0]["lr"])
            if self.validation is not None and (self.step % schedule.evaluate_every == 0 or last):
                miou = self._evaluate()
            if miou is not None or self.step % schedule.save_every == 0 or last:
                self._save(miou)
        pointer = checkpoints.read_pointer(self.out)
        best = None if pointer is None or not pointer.best else pointer.best_miou
        self.accelerator.wait_for_everyone()
        return Summary(self.step, loss, best, self.out)

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        settings = self.settings
        return iter(
            loader(
                Samples(self.tiles, settings.augmentation, settings.seed),
                start=self.step,
                steps=settings.schedule.steps,
                batch=settings.schedule.batch_size,
                parts=settings.schedule.accumulate,
                process=self.accelerator.process_index,
                processes=self.accelerator.num_processes,
                workers=settings.data.workers,
            )
        )

    def _one_step(self, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> tuple[float, float]:
        """One optimiser step; returns the mean loss of its tiles and the norm of the gradient."""
        settings, parts = self.settings, self.settings.schedule.accumulate
        for group in self.optimiser.param_groups:
            group["lr"] = group["first_lr"] * rate_factor(self.step, settings.schedule.steps)
        self.model.train()
        total = torch.zeros((), device=self.accelerator.device)
        for part in range(parts):
            images, labels = (tensor.to(self.accelerator.device) for tensor in next(batches))
            with _synchronised(self.accelerator, self.model, part == parts - 1):
                with self.accelerator.autocast():
                    logits = self.model(images.float(), self.tiles.classes)
                    loss = segmentation_loss(logits, labels, settings.compat)
                self.accelerator.backward(loss / parts)
            total += loss.detach() / parts
        mean = float(self.accelerator.reduce(total, reduction="mean"))
        if not math.isfinite(mean):
            raise InputError(f"the loss is {mean} at step {self.step + 1}; lower optimiser.rate, or use bf16")
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), settings.optimiser.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return mean, float(norm)

    def _evaluate(self) -> float:
        assert self.validation is not None
        schedule, started = self.settings.schedule, time.monotonic()
        result, pictures = evaluate(
            self.network,
            self.validation,
            self.accelerator,
            limit=schedule.evaluate_tiles,
            pictures=schedule.pictures,
            compat=self.settings.compat,
        )
        self.log.evaluation(self.step, result, pictures, time.monotonic() - started)
        return result["mIoU"]

    def _save(self, miou: float | None) -> None:
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        state = {
            "optimiser": self.optimiser.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "identity": self._identity(),
        }
        about = {"classes": list(self.tiles.classes)}
        checkpoints.save(self.out, self.network, state, about, self.step, miou)


def _synchronised(accelerator: Accelerator, model: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Gradients are exchanged with the last part of a step alone."""
    return nullcontext() if last else accelerator.no_sync(model)
