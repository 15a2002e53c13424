"""A training of an embedded policy that can be put down and taken up again, with the same result."""

from __future__ import annotations

import argparse
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from seg_zero.errors import InputError
from seg_zero.files import make_folder, whole_file
from seg_zero.models.muon import MuonAndAdamW
from seg_zero.models.tiny_policy_losses import Helpers
from seg_zero.models.tiny_policy_model import WIDTH, save_policy

PROGRESS = "progress.pt"
REPORT = 10  # steps between lines of the log
SAVE = 300  # seconds between savings


class ResumableTraining(ABC):
    """Steps of a recipe (a dataclass of plain values), of which each depends on the recipe and its number alone."""

    optimisers: MuonAndAdamW  # set by the subclass, as made by make_optimisers
    helpers: Helpers

    def __init__(
        self,
        recipe: Any,
        steps: int,
        processor: Qwen2_5_VLProcessor,
        model: Qwen2_5_VLForConditionalGeneration,
        seed: int,
        helpers: Callable[[int], Helpers] = Helpers,
    ) -> None:
        self.recipe, self.steps, self.done = recipe, steps, 0
        self.processor, self.model = processor, model
        torch.manual_seed(seed)  # the helpers' initialisation
        self.helpers = helpers(WIDTH)

    def make_optimisers(self, rates: tuple[float, float], warm_up: int) -> MuonAndAdamW:
        """Muon for the matrices inside the network, AdamW for embeddings, vectors and the helpers."""
        matrices: list[torch.nn.Parameter] = []
        others = list(self.helpers.parameters())
        for name, weight in self.model.named_parameters():
            (matrices if weight.ndim == 2 and "embed_tokens" not in name else others).append(weight)
        return MuonAndAdamW(matrices, others, rates=rates, warm_up=warm_up, steps=self.steps)

    @abstractmethod
    def step(self) -> dict[str, float]:
        """Step number ``done``, which it raises by one; returns what the log says of it."""

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
        saved = torch.load(path, weights_only=True)
        if saved["recipe"] != vars(self.recipe):
            raise InputError(f"{path} is of another recipe, {saved['recipe']}; give another --out, or delete it")
        self.model.load_state_dict(saved["model"])
        self.helpers.load_state_dict(saved["helpers"])
        self.optimisers.restore(saved["optimisers"])
        self.done = saved["step"]


def option_parser(description: str | None, steps: int) -> argparse.ArgumentParser:
    """The options that the trainings share. steps: the default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the policy into")
    parser.add_argument("--steps", type=int, default=steps, help="in all (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="stop after these, and go on at the next call")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    return parser


def run(training: ResumableTraining, folder: Path, minutes: float | None) -> int:
    """Train to the end of the recipe, or for ``minutes``; returns how many steps are done.

    ``folder`` holds progress.pt until they all are.
    """
    start, cpu = time.monotonic(), time.process_time()
    make_folder(folder)
    training.take_up(folder)
    size = sum(weight.numel() for weight in training.model.parameters())
    print(f"{size:,} parameters, step {training.done} of {training.steps}", flush=True)
    recent: list[dict[str, float]] = []
    saved = start
    while training.done < training.steps and (minutes is None or time.monotonic() - start < 60 * minutes):
        recent.append(training.step())
        if training.done % REPORT == 0:
            names = dict.fromkeys(name for one in recent for name in one)
            means = {name: np.nanmean([one[name] for one in recent if name in one]) for name in names}
            numbers = " ".join(f"{name} {value:.3f}" for name, value in means.items())
            spent = (time.process_time() - cpu) / 60
            print(f"step {training.done} cpu-min {spent:.1f} {numbers}", flush=True)
            recent.clear()
        if time.monotonic() - saved > SAVE:
            training.save(folder)
            saved = time.monotonic()
    training.save(folder)
    if training.done == training.steps:
        (folder / PROGRESS).unlink()
    return training.done
