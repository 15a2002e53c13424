"""Train the start for questions of several hops.

    python -m seg_zero.models.train_hop_start --out FOLDER --device cuda --workers 4
    python -m seg_zero.models.train_hop_start --out FOLDER --threads 2 --minutes 20     # stops; the next call goes on

The embedded tiny policy, with other words, imitates annotators who write down single hops and hardly ever chain them
(``hop_start/labels.py``). The folder loads like any checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from seg_zero.models.hop_start.batches import HopBatch, HopBatchMaker
from seg_zero.models.hop_start.labels import LONG, SEED, SHORT, WHOLE, make_lesson, pool_scene
from seg_zero.models.hop_start.model import make_hop_processor, reword_tiny_policy
from seg_zero.models.resumable import Lessons, ResumableTraining, option_parser, run, set_up_torch
from seg_zero.models.tiny_policy_forward import PackedForward
from seg_zero.models.tiny_policy_losses import IGNORED, Weights, helper_loss, imitation_loss


@dataclass(frozen=True)
class Recipe:
    """How the start is trained. ``pool``: scenes in all, drawn as they are first needed."""

    steps: int = 1900
    images: int = 32  # per step with short labels, and half as many with others
    questions: int = 6  # per image
    pool: int = 12_000
    warm_up: int = 50  # steps
    matrix_rate: float = 0.01  # Muon
    other_rate: float = 2e-3  # AdamW
    helpers_end: float = 0.8  # fraction of the steps after which the helpers' weights are zero


class HopLessons(Lessons):
    """Of each step: a batch of short labels, and in turns one of whole ones and one of long ones."""

    def __init__(self, recipe: Recipe, make_batch: HopBatchMaker) -> None:
        self.recipe, self.make_batch = recipe, make_batch

    def __getitem__(self, number: int) -> list[HopBatch]:
        made = []
        for part, mix in enumerate((SHORT, LONG if number % 2 else WHOLE)):
            rng = np.random.default_rng((SEED, 2, number, part))
            images = self.recipe.images // (1 + part)
            scenes = [pool_scene(int(index)) for index in rng.integers(self.recipe.pool, size=images)]
            made.append(
                self.make_batch(
                    [make_lesson((number, part, i), s, mix, self.recipe.questions) for i, s in enumerate(scenes)]
                )
            )
        return made


class HopTraining(ResumableTraining):
    def __init__(self, recipe: Recipe, device: str = "cpu") -> None:
        processor = make_hop_processor()
        super().__init__(recipe, recipe.steps, processor, reword_tiny_policy(processor, SEED), SEED, device=device)
        self.optimisers = self.make_optimisers((recipe.matrix_rate, recipe.other_rate), recipe.warm_up)
        self.forward, self.make_batch = PackedForward(self.model, processor), HopBatchMaker(processor)
        self.lessons = HopLessons(recipe, self.make_batch)

    def learn(self, batches: list[HopBatch]) -> dict[str, float]:
        """Of all batches; returns the losses and the fraction of right hops, of the short labels."""
        fading = max(0.0, 1 - self.done / (self.recipe.helpers_end * self.recipe.steps))
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
                    predicted[made.names] = self.model.lm_head(last[made.names]).argmax(-1)
                hop = self.make_batch.hop_accuracy(predicted, made)
                name = self.make_batch.name_accuracy(predicted, made)
                report = {"loss": float(imitation.detach()), "hop": hop, "name": name, **values}
        return report


def main() -> None:
    arguments = option_parser(__doc__, Recipe.steps).parse_args()
    device = set_up_torch(arguments.threads, arguments.device)
    training = HopTraining(Recipe(steps=arguments.steps), device)
    run(training, arguments.out, arguments.minutes, arguments.workers)


if __name__ == "__main__":
    main()
