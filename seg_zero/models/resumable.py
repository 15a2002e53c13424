"""A training of an embedded policy that can be put down and taken up again, with the same result.

What a step learns from is drawn by other processes meanwhile, if there are ``--workers``; on a GPU that is what the
step waits for.
"""

from __future__ import annotations

import argparse
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from seg_zero.devices import choose_device
from seg_zero.errors import InputError
from seg_zero.files import make_folder, whole_file
from seg_zero.models.muon import MuonAndAdamW
from seg_zero.models.tiny_policy_losses import Helpers
from seg_zero.models.tiny_policy_model import WIDTH, save_policy

PROGRESS = "progress.pt"
REPORT = 10  # steps between lines of the log
SAVE = 300  # seconds between savings


class Lessons(ABC, Dataset[Any]):
    """What each step learns from, on the CPU; it depends on the recipe and the step's number alone."""

    @abstractmethod
    def __getitem__(self, number: int) -> Any:
        """Of step ``number``: tensors, and dataclasses, tuples and lists of them."""


class ResumableTraining(ABC):
    """Steps of a recipe (a dataclass of plain values), of which each depends on the recipe and its number alone."""

    optimisers: MuonAndAdamW  # set by the subclass, as made by make_optimisers
    helpers: Helpers
    lessons: Lessons  # set by the subclass

    def __init__(
        self,
        recipe: Any,
        steps: int,
        processor: Qwen2_5_VLProcessor,
        model: Qwen2_5_VLForConditionalGeneration,
        seed: int,
        helpers: Callable[[int], Helpers] = Helpers,
        device: str = "cpu",
    ) -> None:
        self.recipe, self.steps, self.done, self.device = recipe, steps, 0, device
        self.processor, self.model = processor, model.to(device)  # type: ignore[arg-type]
        torch.manual_seed(seed)  # the helpers' initialisation
        self.helpers = helpers(WIDTH).to(device)

    def make_optimisers(self, rates: tuple[float, float], warm_up: int) -> MuonAndAdamW:
        """Muon for the matrices inside the network, AdamW for embeddings, vectors and the helpers."""
        matrices: list[torch.nn.Parameter] = []
        others = list(self.helpers.parameters())
        for name, weight in self.model.named_parameters():
            (matrices if weight.ndim == 2 and "embed_tokens" not in name else others).append(weight)
        return MuonAndAdamW(matrices, others, rates=rates, warm_up=warm_up, steps=self.steps)

    def step(self, lessons: Any) -> dict[str, float]:
        """Step number ``done``, which it raises by one, from its lessons; returns what the log says of it."""
        report = self.learn(on_device(lessons, self.device))
        self.optimisers.step(self.done)
        self.done += 1
        return report

    @abstractmethod
    def learn(self, lessons: Any) -> dict[str, float]:
        """The gradients of step number ``done`` from its lessons; returns what the log says of them."""

    def save(self, folder: Path) -> None:
        """The policy, and beside it what the next call needs to go on."""
        save_policy(self.model, self.processor, folder, torch.bfloat16)
        state = {
            "recipe": vars(self.recipe),
            "step": self.done,
            "model": self.model.state_dict(),
            "helpers": self.helpers.state_dict(),
            "optimisers": self.optimisers.state(),
        }
        with whole_file(folder / PROGRESS) as partial:
            torch.save(state, partial)

    def take_up(self, folder: Path) -> None:
        """Go on from ``folder`` if a training was put down there. InputError if that had another recipe."""
        path = folder / PROGRESS
        if not path.is_file():
            return
        saved = torch.load(path, weights_only=True, map_location="cpu")
        if saved["recipe"] != vars(self.recipe):
            raise InputError(f"{path} is of another recipe, {saved['recipe']}; give another --out, or delete it")
        self.model.load_state_dict(saved["model"])
        self.helpers.load_state_dict(saved["helpers"])
        self.optimisers.restore(saved["optimisers"])
        self.done = saved["step"]


def on_device(lessons: Any, device: str) -> Any:
    """``lessons`` with every tensor in them on ``device``."""
    if isinstance(lessons, torch.Tensor):
        return lessons.to(device)
    if isinstance(lessons, (tuple, list)):
        return type(lessons)(on_device(one, device) for one in lessons)
    if is_dataclass(lessons) and not isinstance(lessons, type):
        return replace(lessons, **{one.name: on_device(getattr(lessons, one.name), device) for one in fields(lessons)})
    return lessons


def option_parser(description: str | None, steps: int) -> argparse.ArgumentParser:
    """The options that the trainings share. steps: the default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the policy into")
    parser.add_argument("--steps", type=int, default=steps, help="in all (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=1.0, help="factor of both learning rates (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="stop after these, and go on at the next call")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw lessons (default: this one does)")
    parser.add_argument("--device", default="cpu", help="(default: %(default)s)")
    return parser


def set_up_torch(threads: int, device: str) -> str:
    """Let torch use ``threads``, and TensorFloat-32 on GPUs; returns the device. InputError if it is not there."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")
    return choose_device(device)


def run(training: ResumableTraining, folder: Path, minutes: float | None, workers: int = 0) -> int:
    """Train to the end of the recipe, or for ``minutes``; returns how many steps are done.

    ``folder`` holds progress.pt until they all are.
    """
    start = time.monotonic()
    make_folder(folder)
    training.take_up(folder)
    size = sum(weight.numel() for weight in training.model.parameters())
    print(f"{size:,} parameters, step {training.done} of {training.steps}", flush=True)
    recent: list[dict[str, float]] = []
    saved = start
    numbers = range(training.done, training.steps)
    for lessons in DataLoader(training.lessons, sampler=numbers, batch_size=None, num_workers=workers):
        if minutes is not None and time.monotonic() - start >= 60 * minutes:
            break
        recent.append(training.step(lessons))
        if training.done % REPORT == 0:
            names = dict.fromkeys(name for one in recent for name in one)
            means = {name: np.nanmean([one[name] for one in recent if name in one]) for name in names}
            values = " ".join(f"{name} {value:.3f}" for name, value in means.items())
            spent = (time.monotonic() - start) / 60
            print(f"step {training.done} minutes {spent:.1f} {values}", flush=True)
            recent.clear()
        if time.monotonic() - saved > SAVE:
            training.save(folder)
            saved = time.monotonic()
    training.save(folder)
    if training.done == training.steps:
        (folder / PROGRESS).unlink()
    return training.done
