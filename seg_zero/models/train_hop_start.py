"""Train the start for questions of several hops.

    python -m seg_zero.models.train_hop_start --out FOLDER --device cuda --workers 4
    python -m seg_zero.models.train_hop_start --out FOLDER --threads 2 --minutes 20     # stops; the next call goes on
    python -m seg_zero.models.train_hop_start --start FOLDER --out OTHER --steps 300 --images 8 --rate 0.4

The embedded tiny policy, with other words, imitates annotators who write down single hops and hardly ever chain them
(``hop_start/labels.py``). The folder loads like any checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from seg_zero.models.hop_start.batches import HopBatch, HopBatchMaker
from seg_zero.models.hop_start.labels import MIXES, SEED, make_lesson, pool_scene
from seg_zero.models.hop_start.model import make_hop_processor
from seg_zero.models.resumable import Lessons, ResumableTraining, option_parser, run, set_up_torch
from seg_zero.models.tiny_policy_forward import PackedForward
from seg_zero.models.tiny_policy_losses import IGNORED, Weights, helper_loss, imitation_loss
from seg_zero.models.tiny_policy_model import reword
from seg_zero.policy.model_files import TINY_POLICY


@dataclass(frozen=True)
class Recipe:
    """How the start is trained.

    main, mixes: of :data:`hop_start.labels.MIXES`; each step has labels of the main one and of one other, in turns.
    pool: scenes in all, drawn as they are first needed.
    """

    start: str = str(TINY_POLICY)
    main: str = "free"
    mixes: tuple[str, ...] = ("short", "long", "whole")
    steps: int = 1900
    images: int = 32  # per step with labels of the main mix, and as many with others
    questions: int = 6  # per image
    pool: int = 24_000
    warm_up: int = 50  # steps
    matrix_rate: float = 0.01  # Muon
    other_rate: float = 2e-3  # AdamW
    helpers_end: float = 0.8  # fraction of the steps after which the helpers' weights are zero


class HopLessons(Lessons):
    """Of each step: a batch of the main mix and one of that whose turn it is."""

    def __init__(self, recipe: Recipe, make_batch: HopBatchMaker) -> None:
        self.recipe, self.make_batch = recipe, make_batch

    def __getitem__(self, number: int) -> list[HopBatch]:
        made = []
        turns = self.recipe.mixes
        for part, name in enumerate((self.recipe.main, turns[number % len(turns)])):
            rng = np.random.default_rng((SEED, 2, number, part))
            scenes = [pool_scene(int(index)) for index in rng.integers(self.recipe.pool, size=self.recipe.images)]
            made.append(
                self.make_batch(
                    [
                        make_lesson((number, part, i), s, MIXES[name], self.recipe.questions)
                        for i, s in enumerate(scenes)
                    ]
                )
            )
        return made


class HopTraining(ResumableTraining):
    def __init__(self, recipe: Recipe, device: str = "cpu") -> None:
        processor = make_hop_processor()
        model = reword(recipe.start, processor, SEED)
        super().__init__(recipe, recipe.steps, processor, model, SEED, device=device)
        self.optimisers = self.make_optimisers((recipe.matrix_rate, recipe.other_rate), recipe.warm_up)
        self.forward, self.make_batch = PackedForward(self.model, processor), HopBatchMaker(processor)
        self.lessons = HopLessons(recipe, self.make_batch)

    def learn(self, batches: list[HopBatch]) -> dict[str, float]:
        """Of all batches; returns the losses and the fraction of right hops, of the main labels."""
        fading = max(0.0, 1 - self.done / (self.recipe.helpers_end * self.recipe.steps))
        learnt = [int((made.batch.targets != IGNORED).sum()) for made in batches]
        report: dict[str, float] = {}
        for made, count in zip(batches, learnt, strict=True):
            last, seen = self.forward(made.batch.pixels, made.batch.segments)
            imitation = imitation_loss(self.model, last, made.batch.targets, made.barred)
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
    usual = Recipe()
    parser = option_parser(__doc__, usual.steps)
    add = parser.add_argument
    add("--start", type=Path, default=Path(usual.start), help="folder of a policy (default: the embedded one)")
    add("--main", choices=tuple(MIXES), default=usual.main, help="in each step (default: %(default)s)")
    add(
        "--mixes",
        nargs="+",
        choices=tuple(MIXES),
        default=usual.mixes,
        help="one more, in turns (default: %(default)s)",
    )
    add("--images", type=int, default=usual.images, help="per step and mix (default: %(default)s)")
    options = parser.parse_args()
    device = set_up_torch(options.threads, options.device)
    recipe = Recipe(
        str(options.start),
        options.main,
        tuple(options.mixes),
        options.steps,
        images=options.images,
        matrix_rate=options.rate * usual.matrix_rate,
        other_rate=options.rate * usual.other_rate,
    )
    run(HopTraining(recipe, device), options.out, options.minutes, options.workers)


if __name__ == "__main__":
    main()
