"""Teach a tiny policy of single questions dialogues as well.

    python -m seg_zero.models.train_rounds --start FOLDER --out FOLDER --device cuda --workers 10
    python -m seg_zero.models.train_rounds --start FOLDER --out FOLDER --minutes 20     # stops; the next call goes on

``--start`` is what ``seg_zero.models.train_tiny_policy`` made. The first steps are for the vision tower alone, which
has seen no parts of shapes before. Each of the others has rounds of dialogues, and single questions, so that these are
not unlearnt. What helped then helps again: each visual token says what it shows, now of parts too. One more attention
head is to look at the coordinates of the prompt that the thought cites.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from transformers import Qwen2_5_VLProcessor

from seg_zero.models.resumable import Lessons, ResumableTraining, option_parser, run, set_up_torch
from seg_zero.models.rounds.batches import RoundsBatch, RoundsBatchMaker, RoundsHelpers, cells_of, copy_loss
from seg_zero.models.rounds.labels import draw_things, make_rounds_lesson
from seg_zero.models.tiny_policy_data import CAREFUL_SHARE, make_lesson
from seg_zero.models.tiny_policy_forward import PackedForward, patchify, visual_tokens
from seg_zero.models.tiny_policy_losses import (
    IGNORED,
    Batch,
    BatchMaker,
    CellTruth,
    Weights,
    helper_loss,
    imitation_loss,
    look_loss,
)
from seg_zero.models.tiny_policy_model import reword
from seg_zero.models.tiny_policy_tokenizer import DIALOGUE_WORDS, make_processor, make_tokenizer

SEED = 30_000


@dataclass(frozen=True)
class Recipe:
    """How dialogues are taught.

    careful: fraction of careful annotators of rounds until ``crowd_from`` (fraction of the steps), for the manner of
    the many is soon learnt; from then on it is that of single questions.
    """

    start: str
    steps: int = 2100
    vision_steps: int = 500  # of these, first
    vision_images: int = 64  # per step
    images: int = 24  # with single questions, per step
    questions: int = 4  # per image
    dialogues: int = 24  # per step
    rounds: int = 12  # labels per dialogue
    careful: float = 0.85
    crowd_from: float = 0.75
    warm_up: int = 50  # steps
    matrix_rate: float = 0.01  # Muon
    other_rate: float = 2e-3  # AdamW
    helpers_end: float = 0.9  # fraction of the steps after which the helpers' weights are zero


@dataclass(frozen=True)
class Pictures:
    """What the first steps learn from: pixels, and what each visual token shows of wholes and of parts."""

    pixels: Tensor
    cells: CellTruth
    parts: CellTruth


@dataclass(frozen=True)
class Both:
    """What the other steps learn from: single questions, and rounds whose history comes as ``carry`` says."""

    single: Batch
    rounds: RoundsBatch
    carry: str


class RoundsLessons(Lessons):
    def __init__(self, recipe: Recipe, processor: Qwen2_5_VLProcessor) -> None:
        self.recipe, self.processor = recipe, processor
        self.make_single, self.make_rounds = BatchMaker(processor), RoundsBatchMaker(processor)

    def __getitem__(self, number: int) -> Pictures | Both:
        return self.pictures(number) if number < self.recipe.vision_steps else self.both(number)

    def pictures(self, number: int) -> Pictures:
        rng = [np.random.default_rng((SEED, 3, number, i)) for i in range(self.recipe.vision_images)]
        images, things = zip(*(draw_things(one) for one in rng), strict=True)
        return Pictures(patchify(list(images), self.processor), *cells_of(things))

    def both(self, number: int) -> Both:
        recipe = self.recipe
        first = number * recipe.images
        single = self.make_single([make_lesson(SEED, first + i, recipe.questions) for i in range(recipe.images)])
        careful = recipe.careful if number < recipe.crowd_from * recipe.steps else CAREFUL_SHARE
        carry = "all" if number % 4 == 0 else "references"
        rounds = self.make_rounds(
            [
                make_rounds_lesson((SEED, 2, number, i), recipe.rounds, carry=carry, careful=careful)
                for i in range(recipe.dialogues)
            ]
        )
        return Both(single, rounds, carry)


class RoundsTraining(ResumableTraining):
    helpers: RoundsHelpers

    def __init__(self, recipe: Recipe, device: str = "cpu") -> None:
        processor = make_processor(make_tokenizer(words=DIALOGUE_WORDS))
        model = reword(recipe.start, processor, SEED)
        super().__init__(recipe, recipe.steps, processor, model, SEED, RoundsHelpers, device)
        self.optimisers = self.make_optimisers((recipe.matrix_rate, recipe.other_rate), recipe.warm_up)
        self.forward = PackedForward(self.model, processor)
        self.lessons = RoundsLessons(recipe, processor)

    def learn(self, lessons: Pictures | Both) -> dict[str, float]:
        """Returns what is right of parts, and later the losses of rounds and of single questions."""
        return self.see(lessons) if isinstance(lessons, Pictures) else self.imitate(lessons)

    def see(self, lessons: Pictures) -> dict[str, float]:
        """The vision tower alone: what each visual token shows."""
        visual = visual_tokens(self.model, lessons.pixels)
        loss, right = self.helpers.see_loss(visual, lessons.cells, lessons.parts)
        loss.backward()
        return right

    def imitate(self, lessons: Both) -> dict[str, float]:
        """Rounds and single questions."""
        recipe, weights = self.recipe, Weights()
        single, rounds = lessons.single, lessons.rounds
        fading = max(0.0, 1 - self.done / (recipe.helpers_end * recipe.steps))
        learnt = [int((made.targets != IGNORED).sum()) for made in (single, rounds)]

        last, seen = self.forward(single.pixels, single.segments)
        imitation = imitation_loss(self.model, last, single.targets)
        helping, _ = helper_loss(self.helpers, seen, single, weights)
        (learnt[0] / sum(learnt) * (imitation + fading * helping)).backward()
        last, seen = self.forward(rounds.pixels, rounds.segments)
        of_rounds = imitation_loss(self.model, last, rounds.targets)
        looking = look_loss(seen.attention, rounds.looked_at)
        copying = copy_loss(seen.copying, rounds.copied, len(self.forward.prefix))
        seeing, right = self.helpers.see_loss(seen.visual, rounds.cells, rounds.parts)
        where = self.helpers.where_loss(seen.middle, rounds.cells)
        helping = weights.what * seeing + weights.where * 10 * where + weights.look * (looking + copying)
        (learnt[1] / sum(learnt) * (of_rounds + fading * helping)).backward()
        return {
            f"rounds_{lessons.carry}": float(of_rounds.detach()),
            "single": float(imitation.detach()),
            "look": float(looking.detach()),
            "copy": float(copying.detach()),
            **right,
        }


def main() -> None:
    parser = option_parser(__doc__, Recipe.steps)
    add, usual = parser.add_argument, Recipe("")
    add("--start", type=Path, required=True, help="folder of the policy of single questions, or of an earlier run")
    add("--vision_steps", type=int, default=usual.vision_steps, help="of these, first (default: %(default)s)")
    add("--crowd_from", type=float, default=usual.crowd_from, help="fraction of the steps (default: %(default)s)")
    options = parser.parse_args()
    device = set_up_torch(options.threads, options.device)
    recipe = Recipe(
        str(options.start),
        steps=options.steps,
        vision_steps=options.vision_steps,
        crowd_from=options.crowd_from,
        matrix_rate=options.rate * usual.matrix_rate,
        other_rate=options.rate * usual.other_rate,
    )
    run(RoundsTraining(recipe, device), options.out, options.minutes, options.workers)


if __name__ == "__main__":
    main()
