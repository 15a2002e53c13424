"""Train the start for questions of several hops, on one CPU core.

    python -m seg_zero.models.train_hop_start --out FOLDER
    python -m seg_zero.models.train_hop_start --out FOLDER --minutes 20     # stops; the next call goes on

The embedded tiny policy, with other words, imitates annotators who write down single hops and hardly ever chain them
(``hop_start/labels.py``). The folder loads like any checkpoint.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration

from seg_zero.errors import InputError
from seg_zero.files import make_folder, whole_file
from seg_zero.models.hop_start.batches import HopBatch, HopBatchMaker
from seg_zero.models.hop_start.labels import LONG, SEED, SHORT, WHOLE, make_lesson, pool_scene
from seg_zero.models.hop_start.model import make_hop_processor, reword_tiny_policy
from seg_zero.models.muon import MuonAndAdamW
from seg_zero.models.tiny_policy_forward import PackedForward
from seg_zero.models.tiny_policy_losses import IGNORED, Helpers, Weights, helper_loss, imitation_loss
from seg_zero.models.tiny_policy_model import WIDTH, save_policy

PROGRESS = "progress.pt"
REPORT = 10  # steps between lines of the log
SAVE = 300  # seconds between savings


@dataclass(frozen=True)
class Recipe:
    """How the start is trained. ``pool``: scenes in all, drawn as they are first needed."""

    steps: int = 3000
    questions: int = 6  # per image
    pool: int = 6000
    warm_up: int = 50  # steps
    matrix_rate: float = 0.01  # Muon
    other_rate: float = 2e-3  # AdamW
    helpers_end: float = 0.8  # fraction of the steps after which the helpers' weights are zero


def optimisers(model: nn.Module, helpers: nn.Module, recipe: Recipe) -> MuonAndAdamW:
    """Muon for the matrices inside the network, AdamW for embeddings, vectors and the helpers."""
    matrices: list[nn.Parameter] = []
    others = list(helpers.parameters())
    for name, weight in model.named_parameters():
        (matrices if weight.ndim == 2 and "embed_tokens" not in name else others).append(weight)
    rates = (recipe.matrix_rate, recipe.other_rate)
    return MuonAndAdamW(matrices, others, rates=rates, warm_up=recipe.warm_up, steps=recipe.steps)


class Training:
    """A training of the start that can be put down and taken up again: what it does depends on ``recipe`` alone."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.done = recipe, 0
        self.processor = make_hop_processor()
        self.model: Qwen2_5_VLForConditionalGeneration = reword_tiny_policy(self.processor, SEED)
        torch.manual_seed(SEED)  # the helpers' initialisation
        self.helpers = Helpers(WIDTH)
        self.optimisers = optimisers(self.model, self.helpers, recipe)
        self.forward, self.make_batch = PackedForward(self.model, self.processor), HopBatchMaker(self.processor)

    def draw(self, number: int) -> list[HopBatch]:
        """The batches of a step: short labels, and in turns whole ones and long ones."""
        made = []
        for part, mix in enumerate((SHORT, LONG if number % 2 else WHOLE)):
            rng = np.random.default_rng((SEED, 2, number, part))
            scenes = [pool_scene(int(index)) for index in rng.integers(self.recipe.pool, size=mix.images)]
            made.append(
                self.make_batch(
                    [make_lesson((number, part, i), s, mix, self.recipe.questions) for i, s in enumerate(scenes)]
                )
            )
        return made

    def step(self) -> dict[str, float]:
        """One step; returns its losses and the fraction of right hops, of the short labels."""
        fading = max(0.0, 1 - self.done / (self.recipe.helpers_end * self.recipe.steps))
        batches = self.draw(self.done)
        learnt = [int((made.batch.targets != IGNORED).sum()) for made in batches]
        report: dict[str, float] = {}
        for made, count in zip(batches, learnt, strict=True):
            last, seen = self.forward(made.batch.pixels, made.batch.segments)
            imitation = imitation_loss(self.model, last, made.batch.targets)
            helping, values = helper_loss(self.helpers, seen, made.batch, Weights())
            (count / sum(learnt) * (imitation + fading * helping)).backward()
            if not report:
                with torch.no_grad():
                    predicted = torch.zeros_like(made.batch.targets)
                    predicted[made.hops] = self.model.lm_head(last[made.hops]).argmax(-1)
                hop = self.make_batch.hop_accuracy(predicted, made)
                report = {"loss": float(imitation.detach()), "hop": hop, **values}
        self.optimisers.step(self.done)
        self.done += 1
        return report

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


def train(folder: Path, recipe: Recipe, minutes: float | None) -> int:
    """Train to the end of the recipe, or for ``minutes``; returns how many steps are done.

    ``folder`` holds progress.pt until they all are.
    """
    start, cpu = time.monotonic(), time.process_time()
    make_folder(folder)
    training = Training(recipe)
    training.take_up(folder)
    size = sum(weight.numel() for weight in training.model.parameters())
    print(f"{size:,} parameters, step {training.done} of {recipe.steps}", flush=True)
    recent: list[dict[str, float]] = []
    saved = start
    while training.done < recipe.steps and (minutes is None or time.monotonic() - start < 60 * minutes):
        recent.append(training.step())
        if training.done % REPORT == 0:
            means = {name: float(np.nanmean([one[name] for one in recent])) for name in recent[0]}
            numbers = " ".join(f"{name} {value:.3f}" for name, value in means.items())
            spent = (time.process_time() - cpu) / 60
            print(f"step {training.done} cpu-min {spent:.1f} {numbers}", flush=True)
            recent.clear()
        if time.monotonic() - saved > SAVE:
            training.save(folder)
            saved = time.monotonic()
    training.save(folder)
    if training.done == recipe.steps:
        (folder / PROGRESS).unlink()
    return training.done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the policy into")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="in all (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="stop after these, and go on at the next call")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train(arguments.out, Recipe(steps=arguments.steps), arguments.minutes)


if __name__ == "__main__":
    main()
