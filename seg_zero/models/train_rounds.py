"""Teach a tiny policy of single questions dialogues as well, on one CPU core.

    python -m seg_zero.models.train_rounds --start FOLDER --out FOLDER
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
import torch

from seg_zero.models.resumable import ResumableTraining, option_parser, run
from seg_zero.models.rounds.batches import RoundsBatchMaker, RoundsHelpers, cells_of, copy_loss
from seg_zero.models.rounds.labels import draw_things, make_rounds_lesson
from seg_zero.models.tiny_policy_data import CAREFUL_SHARE, make_lesson
from seg_zero.models.tiny_policy_forward import PackedForward, patchify, visual_tokens
from seg_zero.models.tiny_policy_losses import (
    IGNORED,
    BatchMaker,
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
    steps: int = 1400
    vision_steps: int = 300  # of these, first
    vision_images: int = 24  # per step
    images: int = 6  # with single questions, per step
    questions: int = 4  # per image
    dialogues: int = 8  # per step
    rounds: int = 4  # per dialogue
    careful: float = 0.85
    crowd_from: float = 0.75
    warm_up: int = 50  # steps
    matrix_rate: float = 0.01  # Muon
    other_rate: float = 2e-3  # AdamW
    helpers_end: float = 0.9  # fraction of the steps after which the helpers' weights are zero


class RoundsTraining(ResumableTraining):
    helpers: RoundsHelpers

    def __init__(self, recipe: Recipe) -> None:
        processor = make_processor(make_tokenizer(words=DIALOGUE_WORDS))
        model = reword(recipe.start, processor, SEED)
        super().__init__(recipe, recipe.steps, processor, model, SEED, RoundsHelpers)
        self.optimisers = self.make_optimisers((recipe.matrix_rate, recipe.other_rate), recipe.warm_up)
        self.forward = PackedForward(self.model, processor)
        self.make_single, self.make_rounds = BatchMaker(processor), RoundsBatchMaker(processor)

    def step(self) -> dict[str, float]:
        """One update; returns what is right of parts, and later the losses of rounds and of single questions."""
        report = self.see() if self.done < self.recipe.vision_steps else self.imitate()
        self.optimisers.step(self.done)
        self.done += 1
        return report

    def see(self) -> dict[str, float]:
        """The vision tower alone: what each visual token shows."""
        rng = [np.random.default_rng((SEED, 3, self.done, i)) for i in range(self.recipe.vision_images)]
        images, things = zip(*(draw_things(one) for one in rng), strict=True)
        visual = visual_tokens(self.model, patchify(list(images), self.processor))
        loss, right = self.helpers.see_loss(visual, *cells_of(things))
        loss.backward()
        return right

    def imitate(self) -> dict[str, float]:
        """Rounds and single questions."""
        recipe, number, weights = self.recipe, self.done, Weights()
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
        fading = max(0.0, 1 - number / (recipe.helpers_end * recipe.steps))
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
            f"rounds_{carry}": float(of_rounds.detach()),
            "single": float(imitation.detach()),
            "look": float(looking.detach()),
            "copy": float(copying.detach()),
            **right,
        }


def main() -> None:
    parser = option_parser(__doc__, Recipe.steps)
    parser.add_argument("--start", type=Path, required=True, help="folder of the policy of single questions")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = Recipe(str(arguments.start), steps=arguments.steps)
    run(RoundsTraining(recipe), arguments.out, arguments.minutes)


if __name__ == "__main__":
    main()
