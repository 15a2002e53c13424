"""What a training is told, typed; the defaults and recipes are in ``configs/remote_sensing/``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from seg_zero.errors import InputError
from seg_zero.remote_sensing.model.files import EMBEDDED, Pretrained
from seg_zero.remote_sensing.model.finetuning import ClipMode, DinoMode
from seg_zero.remote_sensing.model.loss import Compat
from seg_zero.remote_sensing.model.settings import ModelSettings

Precision = Literal["no", "bf16", "fp16"]


@dataclass(frozen=True)
class TilesPlace:
    """A data set: its name, the folder that holds it, and all, train or val."""

    dataset: str
    folder: str
    split: str = "all"


@dataclass(frozen=True)
class DataSettings:
    """train, validation: labelled tiles; without validation there is no best checkpoint. workers: reading processes."""

    train: TilesPlace
    validation: TilesPlace | None = None
    workers: int = 4


@dataclass(frozen=True)
class AugmentationSettings:
    """side: of the square crops, and of a tile's shorter side before. max_side: the longer side is no longer then."""

    side: int = 384
    max_side: int = 1333
    flip: float = 0.5
    colour: bool = True

    def __post_init__(self) -> None:
        if not 16 <= self.side <= self.max_side:
            raise InputError(f"augmentation.side={self.side} is not from 16 to max_side={self.max_side}; change it")
        if not 0 <= self.flip <= 1:
            raise InputError(f"augmentation.flip={self.flip} is no probability; give 0 to 1")


@dataclass(frozen=True)
class FinetuneSettings:
    """What of the encoders is trained, and their rates as multiples of the rate of the new modules."""

    clip: ClipMode = "attention"
    dino: DinoMode = "frozen"
    clip_multiplier: float = 0.01
    dino_multiplier: float = 0.01


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW; the rate falls to 0 as a cosine. clip_norm: of the gradient of all weights together."""

    rate: float = 2e-4
    weight_decay: float = 1e-4
    clip_norm: float = 0.01

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.clip_norm <= 0 or self.weight_decay < 0:
            raise InputError(f"optimiser has a number out of range: {self}; give positive ones")


@dataclass(frozen=True)
class ScheduleSettings:
    """Numbers of optimiser steps. batch_size: tiles a step, over all processes; accumulate: parts it is computed in."""

    steps: int = 30_000
    batch_size: int = 8
    accumulate: int = 1
    evaluate_every: int = 5000
    evaluate_tiles: int = 0  # the first of the validation's; 0: all
    save_every: int = 1000
    log_every: int = 20
    pictures: int = 4

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "evaluate_every", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise InputError(f"schedule.{name}={getattr(self, name)} is too small; give at least 1")
        for name in ("evaluate_tiles", "pictures"):
            if getattr(self, name) < 0:
                raise InputError(f"schedule.{name}={getattr(self, name)} is negative; give 0 or more")
        if self.batch_size % self.accumulate:
            raise InputError(
                f"schedule.batch_size={self.batch_size} is no multiple of accumulate={self.accumulate}; change one"
            )


@dataclass(frozen=True)
class TrainSettings:
    """A training. start_from: a trained folder or published file to begin with, in place of pretrained; embedded
    encoders, which a recipe names, give way to it."""

    output_dir: str
    data: DataSettings
    model: ModelSettings = field(default_factory=ModelSettings)
    pretrained: Pretrained = field(default_factory=Pretrained)
    start_from: str = ""
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    precision: Precision = "no"
    tf32: bool = True
    device: Literal["", "cpu"] = ""
    seed: int = 0
    compat: Compat = "ours"

    def __post_init__(self) -> None:
        if not self.output_dir:
            raise InputError("output_dir is empty; give a folder")
        files = {self.pretrained.clip, self.pretrained.remote, self.pretrained.dino} - {"", EMBEDDED}
        if self.start_from and files:
            raise InputError("start_from holds all weights; give it or pretrained.*, not both")
