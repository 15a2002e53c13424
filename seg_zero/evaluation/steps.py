"""Answers to questions of several hops, judged by their written steps as well as by their box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from seg_zero.answer import parse_answer, write_solution_multi
from seg_zero.data.synthetic.hop_steps import judge_steps
from seg_zero.data.synthetic.hops import Chain
from seg_zero.data.synthetic.rows import hop_question
from seg_zero.data.synthetic.scenes import Scene
from seg_zero.errors import InputError
from seg_zero.evaluation.predictions import Prediction
from seg_zero.rewards import Response
from seg_zero.rewards.boxes import iou

RIGHT = 0.5  # box IoU above which an answer counts as right


@dataclass(frozen=True)
class HopAnswer:
    """One answer to one question.

    box_iou: with the target, 0 without a readable answer. hops: how many are written; right_hops: how many of them are
    right in a row, from the first on. complete: exactly the question's steps are written, all with the right object.
    """

    box_iou: float
    hops: int
    right_hops: int
    complete: bool

    @property
    def right(self) -> bool:
        return self.box_iou > RIGHT


@dataclass(frozen=True)
class HopSummary:
    """Means over the answers to the questions of one set; ``pass_at`` by number of samples.

    first: fraction of answers whose first hop is right. complete_of_right: of the right answers, the fraction that
    came with complete steps (NaN if none is right).
    """

    name: str
    questions: int
    samples: int
    box_iou: float
    accuracy: float
    hops: float
    first: float
    complete: float
    complete_of_right: float
    pass_at: dict[int, float]


def judge_answer(scene: Scene, chain: Chain, text: str) -> HopAnswer:
    """A policy's text against the scene; coordinates are pixels of the scene."""
    answer = parse_answer(text)
    truth = write_solution_multi([scene.objects[chain.target].prompt])
    response = Response(text, truth, scene.image.size, parsed=answer)
    thought = text.partition("</think>")[0].removeprefix("<think>")
    steps = judge_steps(scene, chain, thought)
    return HopAnswer(iou(response, threshold=None), steps.hops, steps.right, steps.complete(chain))


@lru_cache(maxsize=4096)
def _question(name: str, kind: str, side: int) -> tuple[Scene, Chain]:
    return hop_question(name, kind, side)


def judge_prediction(prediction: Prediction, side: int) -> list[HopAnswer]:
    """Each text of an evaluated row; ``side`` is that of its image, which must be the policy's too."""
    scene, chain = _question(prediction.id, prediction.kind, side)
    return [judge_answer(scene, chain, text) for text in prediction.texts]


def pass_at(samples: int, right: int, draws: int) -> float:
    """Probability that at least one of ``draws`` of the ``samples``, of which ``right`` are right, is right.

    The unbiased estimator of pass@k (Chen and others 2021, arXiv 2107.03374). InputError if there are too few samples.
    """
    if not 1 <= draws <= samples:
        raise InputError(f"pass@{draws} of {samples} samples: give at least as many samples, and at least one")
    return 1.0 - math.comb(samples - right, draws) / math.comb(samples, draws)


def summarise_hops(name: str, answers: Sequence[Sequence[HopAnswer]], draws: Sequence[int] = (1,)) -> HopSummary:
    """``answers``: of each question equally many. InputError if there are none."""
    counts = {len(some) for some in answers}
    if len(counts) != 1 or 0 in counts:
        raise InputError(f"set {name}: {len(answers)} questions with {sorted(counts)} answers; each needs equally many")
    (samples,) = counts
    flat = [one for some in answers for one in some]
    right = [one.complete for one in flat if one.right]
    counted = [sum(one.right for one in some) for some in answers]
    return HopSummary(
        name=name,
        questions=len(answers),
        samples=samples,
        box_iou=float(np.mean([one.box_iou for one in flat])),
        accuracy=float(np.mean([one.right for one in flat])),
        hops=float(np.mean([one.hops for one in flat])),
        first=float(np.mean([one.right_hops > 0 for one in flat])),
        complete=float(np.mean([one.complete for one in flat])),
        complete_of_right=float(np.mean(right)) if right else math.nan,
        pass_at={n: float(np.mean([pass_at(samples, count, n) for count in counted])) for n in draws},
    )


def hop_table(summaries: Sequence[HopSummary]) -> str:
    """Markdown: a line per set."""
    draws = list(summaries[0].pass_at) if summaries else []
    heads = ["hops", "questions", "box IoU", "accuracy", "hops written", "first hop right", "steps complete"]
    heads += ["right answers with complete steps", *(f"pass@{n}" for n in draws)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for one in summaries:
        values = (one.box_iou, one.accuracy, one.hops, one.first, one.complete, one.complete_of_right)
        numbers = [*values, *(one.pass_at[n] for n in draws)]
        cells = [one.name, str(one.questions), *("" if math.isnan(v) else f"{v:.3f}" for v in numbers)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
