"""Whether a second turn helps: the policy sees its own mask drawn on the picture and may correct it.

    python -m benchmarks.refinement                                  # the start, and both arms with three seeds
    python -m benchmarks.refinement --arms two_turns --seeds 1
    python -m benchmarks.refinement --start FOLDER --out OTHER       # of a policy by benchmarks.correction_start
    python -m benchmarks.refinement --report                         # only the tables, of the runs that are there

Both arms train with training_scripts/run_tiny_dialogue_cpu.sh from the same start (the embedded policy, which was not
taught corrections, unless --start is given) on the same synthetic questions, with 64 answers a step: ``single_turn`` on
first answers alone, ``two_turns`` in closed loop on the answer and its correction. All are judged on held-out
questions, greedily and with both turns, as ``seg-zero infer --refine 1`` takes them. A second turn is also asked for
after a mask that is not the policy's own: the true one, and that of a thing that was not asked for. Finished runs are
kept in --out, with their policies; --out is for one start. A run takes three to five minutes on two cores.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from benchmarks.dialogue_learning import Arm, train
from benchmarks.kept_runs import START, Result, kept_run, run_arms
from seg_zero.data.synthetic.rows import HELD_OUT_SEED, TRAIN_SEED, write_split
from seg_zero.data.synthetic.scenes import KINDS, Sample, make_samples
from seg_zero.dialogue.data.corrections import dialogues_of_rows
from seg_zero.dialogue.data.records import write_dialogues
from seg_zero.dialogue.memory import Instance
from seg_zero.dialogue.renderers import renderer_for
from seg_zero.dialogue.session import Answerer
from seg_zero.dialogue.turns import correction_of
from seg_zero.evaluation.dialogues import ModelPredictor, Question
from seg_zero.evaluation.run import Models
from seg_zero.metrics import count_pixels, iou_of
from seg_zero.pipeline import ReasoningSegmenter
from seg_zero.policy import GREEDY, Policy, Reply, Request, Sampling
from seg_zero.segmenter import Segmenter
from seg_zero.statistics import paired_difference
from seg_zero.training.trainer.metrics_log import read_metrics

TRAINING, HELD_OUT = 640, 300  # questions; 40 steps of the single turn see each training question once
CHANGED = 0.1  # of IoU: a question got better or worse by more
RIGHT = 0.7  # IoU of a first answer that needs no correction
COPIED = 0.9  # IoU of the second mask with the first
LAST = 10  # steps whose training metrics are reported
WRONG, TRUE = "wrong", "true"

# The term for citations would pay a correction for naming the answer that it should replace.
_TURNS = ("dialogue.references=marks", "dialogue.carry=references", "reward.terms.citation.weight=0")
ARMS = (
    Arm(
        "single_turn",
        (*_TURNS, "dialogue.max_rounds=1", "data.train_batch_size=16", "worker.actor.global_batch_size=16"),
    ),
    Arm("two_turns", (*_TURNS, "data.train_batch_size=8", "worker.actor.global_batch_size=8")),
)


class Counted(Policy):
    """A policy that counts the tokens of its answers."""

    def __init__(self, policy: Policy) -> None:
        self._policy, self.spec, self.in_flight = policy, policy.spec, policy.in_flight
        self.tokens = 0

    def stream(self, requests: Iterable[Request | None], sampling: Sampling = GREEDY) -> Iterator[Reply]:
        for reply in self._policy.stream(requests, sampling):
            self.tokens += reply.tokens
            yield reply


def write_sets(folder: Path) -> None:
    """``train.jsonl`` and ``held_out.jsonl``, of an answer and its correction each, if they are not there."""
    for name, seed, count in (("train", TRAIN_SEED, TRAINING), ("held_out", HELD_OUT_SEED, HELD_OUT)):
        path = folder / f"{name}.jsonl"
        if not path.exists():
            write_split(folder / f"{name}.parquet", seed, count)
            made = dialogues_of_rows(str(folder / f"{name}.parquet"), folder / f"{name}_images", turns=1)
            write_dialogues(path, made.usable())


def _iou(mask: np.ndarray, problem: str | None, truth: np.ndarray) -> float:
    """0 for an answer that cannot be read, even if nothing is to be found."""
    if problem is not None:
        return 0.0
    counts = count_pixels(mask, truth)
    return iou_of(counts.intersection, counts.union)


def other_thing(sample: Sample, number: int) -> np.ndarray | None:
    """The mask of a thing in the picture that was not asked for, boolean H x W; None if there is none."""
    others = [item.mask for i, item in enumerate(sample.scene.objects) if i not in sample.question.targets]
    return others[number % len(others)] if others else None


def after_given(policy: Policy, sam2: Segmenter, samples: Sequence[Sample], masks: Sequence[np.ndarray]) -> list[float]:
    """IoUs of the second turn if these masks (boolean H x W) are shown as the first answers."""
    predictor = ModelPredictor(Answerer(policy, sam2, renderer_for("marks", "references")))
    predictor.begin({number: sample.scene.image for number, sample in enumerate(samples)})
    questions = [
        Question(number, 2, sample.scene.image, correction_of(text, 1), (Instance.of_mask(1, text, mask),))
        for number, (sample, mask) in enumerate(zip(samples, masks, strict=True))
        for text in (sample.question.text,)
    ]
    return [
        _iou(np.asarray(guess.masks.any(axis=0)), guess.problem, sample.mask)
        for guess, sample in zip(predictor.answer(questions), samples, strict=True)
    ]


def judge(policy: Policy, sam2: Segmenter, samples: Sequence[Sample]) -> dict[str, Any]:
    """Lists in the order of the questions.

    ``turn_1``, ``turn_2``: IoUs of the answer that stands after so many turns; ``second``: IoUs of the second answers,
    0 for one that cannot be read; ``copied``: the masks of both turns are one, 0 or 1; ``after``: IoUs of second
    answers after other masks, wrong ones where there are any; ``kinds``, ``texts``; ``cost``: by turns, tokens and
    seconds for each question, asked in the policy's batches.
    """
    counted = Counted(policy)
    segmenter = ReasoningSegmenter(counted, sam2)
    images, questions = [s.scene.image for s in samples], [s.question.text for s in samples]
    segmenter.batch(images[: policy.in_flight], questions[: policy.in_flight], refine=1)  # the first run is slower
    cost, results = {}, []
    for turns in (1, 2):
        counted.tokens, start = 0, time.perf_counter()
        results = segmenter.batch(images, questions, refine=turns - 1)
        cost[str(turns)] = {
            "tokens": counted.tokens / len(samples),
            "seconds": (time.perf_counter() - start) / len(samples),
        }
    found: dict[str, Any] = {"turn_1": [], "turn_2": [], "second": [], "copied": [], "texts": [], "cost": cost}
    for result, sample in zip(results, samples, strict=True):
        first, second = result.turns
        found["turn_1"].append(_iou(first.mask, first.problem, sample.mask))
        found["turn_2"].append(_iou(result.mask, result.problem, sample.mask))
        found["second"].append(_iou(second.mask, second.problem, sample.mask))
        found["copied"].append(float(_iou(second.mask, second.problem, first.mask) >= COPIED))
        found["texts"].append([first.text, second.text])
    others = [other_thing(sample, number) for number, sample in enumerate(samples)]
    wrong = [(sample, mask) for sample, mask in zip(samples, others, strict=True) if mask is not None]
    found["after"] = {
        TRUE: after_given(policy, sam2, samples, [sample.mask for sample in samples]),
        WRONG: after_given(policy, sam2, [sample for sample, _ in wrong], [mask for _, mask in wrong]),
    }
    return {**found, "kinds": [sample.question.kind for sample in samples]}


def run(name: str, seed: int, steps: int, start: str | None, out: Path) -> Result:
    """The result of a run; read from its file if it was made before. Checkpoints are not kept."""
    folder = out / (START if name == START else f"{name}_{seed}")

    def make() -> Result:
        write_sets(out)
        arm = next((arm for arm in ARMS if arm.name == name), None)
        policy, seconds = train(arm, seed, steps, start, out, folder)
        metrics = read_metrics(folder / "train" / "metrics.jsonl") if arm else []
        samples = list(make_samples(HELD_OUT_SEED, HELD_OUT))
        return {
            "arm": name,
            "seed": seed,
            "steps": steps,
            "seconds": seconds,
            "curves": curves(metrics),
            **judge(*Models(policy=policy, max_new_tokens=96).load(), samples),
        }

    return kept_run(folder, make, ("train/checkpoints",))


def curves(metrics: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Training metrics of each turn by step: box IoU of the samples, score."""
    names = [f"dialogue/round_{turn}/{what}" for turn in (1, 2) for what in ("box_iou", "score")]
    return {name: [line[name] for line in metrics] for name in names if metrics and name in metrics[0]}


def _row(result: dict[str, Any]) -> list[str]:
    """The first three cells of a line."""
    if result["arm"] == START:
        return [START, "", ""]
    return [result["arm"], str(result["seed"]), f"{result['seconds'] / 60:.1f}"]


def turns_row(result: dict[str, Any]) -> list[str]:
    one, two = np.array(result["turn_1"]), np.array(result["turn_2"])
    change = paired_difference(one, two)
    return [
        *_row(result),
        f"{one.mean():.3f}",
        f"{two.mean():.3f}",
        f"{change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f})",
        str(int((two - one > CHANGED).sum())),
        str(int((one - two > CHANGED).sum())),
        f"{np.mean(result['copied']):.2f}",
    ]


def seen_row(result: dict[str, Any]) -> list[str]:
    one, second = np.array(result["turn_1"]), np.array(result["second"])
    own = [
        f"{one[some].mean():.3f} → {second[some].mean():.3f}" if some.any() else ""
        for some in (one >= RIGHT, one < RIGHT)
    ]
    return [*_row(result)[:2], *own, *(f"{np.mean(result['after'][which]):.3f}" for which in (TRUE, WRONG))]


def cost_row(result: dict[str, Any]) -> list[str]:
    costs = [result["cost"][turns] for turns in ("1", "2")]
    trained = [result["curves"].get(f"dialogue/round_{turn}/box_iou", []) for turn in (1, 2)]
    return [
        *_row(result)[:2],
        " → ".join(f"{cost['tokens']:.0f}" for cost in costs),
        " → ".join(f"{1000 * cost['seconds']:.0f}" for cost in costs),
        *(f"{np.mean(values[-LAST:]):.2f}" if values else "" for values in trained),
    ]


def kinds_row(result: dict[str, Any]) -> list[str]:
    """IoUs of first and second answers by kind of question."""
    kinds = np.array(result["kinds"])
    cells = []
    for kind in KINDS:
        one, two = (float(np.mean(np.array(result[turn])[kinds == kind])) for turn in ("turn_1", "second"))
        cells.append(f"{one:.2f} → {two:.2f}")
    return [*_row(result)[:2], *cells]


def table(heads: Sequence[str], row: Callable[[dict[str, Any]], list[str]], results: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each run."""
    lines = [list(heads), ["---"] * len(heads), *(row(result) for result in results)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tables(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: what the second turn does, also by the mask that it is shown and by kind, and what it costs."""
    heads = ["", "seed", "minutes", "turn 1", "turn 2", "turn 2 less turn 1", "better", "worse", "same mask"]
    seen = ["turn 2 after", "seed", "its own, right", "its own, wrong", "the true mask", "that of another thing"]
    costs = ["", "seed", "tokens, one → two turns", "ms, one → two turns", "box IoU of samples, turn 1", "turn 2"]
    kinds = ["turn 1 → turn 2", "seed", *KINDS]
    made = ((heads, turns_row), (seen, seen_row), (kinds, kinds_row), (costs, cost_row))
    return "\n".join(table(titles, row, results) for titles, row in made)


def report(results: Sequence[Result]) -> str:
    return f"{tables(results)}\n{HELD_OUT} held-out questions"


if __name__ == "__main__":
    sys.exit(run_arms(__doc__, Path("outputs/refinement"), [arm.name for arm in ARMS], run, report))
