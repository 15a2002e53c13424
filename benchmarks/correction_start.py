"""A start for ``benchmarks.refinement`` that was taught corrections: the embedded policy after supervised training.

    python -m benchmarks.correction_start --out FOLDER       # eight minutes on two cores

The embedded policy answers questions, sampled, and SAM2 makes the masks. It is then trained on two lessons for each:
the question with the policy's own answer, so that the first turn stays as it is, and the request for a correction,
which shows that answer's mask, right or wrong, with the exact answer and a careful thought. The scenes are neither in
the training set of GRPO nor among the held-out ones.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from benchmarks.learning.supervised import ROWS_PER_STEP, requests_of, train_on
from seg_zero.data.synthetic.rows import WARM_UP_SEED
from seg_zero.data.synthetic.scenes import Sample, make_samples
from seg_zero.dialogue.memory import Round
from seg_zero.dialogue.references import Asked
from seg_zero.dialogue.renderers import renderer_for
from seg_zero.dialogue.turns import correction_of
from seg_zero.evaluation.run import Models
from seg_zero.models.tiny_policy_data import careful_label
from seg_zero.pipeline import ReasoningSegmenter
from seg_zero.policy import Request
from seg_zero.policy.loading import quiet_transformers
from seg_zero.results.result import SegmentationResult

QUESTIONS = 1600
PASSES = 3
RATE = 3e-4


def correction_request(result: SegmentationResult) -> Request:
    """What the policy is asked in the turn after an answer."""
    instance = Round(Asked(result.question), result).instance(1)
    asked = correction_of(result.question, 1)
    spec = Models().spec()
    rendered = renderer_for("marks", "references").render(result.image, (instance,), asked, spec)
    return Request(0, rendered.image, asked.question, rendered.context)


def lessons(samples: Sequence[Sample], answers: Sequence[SegmentationResult]) -> tuple[list[Request], list[str]]:
    """Requests and responses: each question with the policy's own answer, then its correction with the exact one."""
    requests, responses = requests_of(samples), [answer.text for answer in answers]
    requests += [correction_request(answer) for answer in answers]
    responses += [careful_label(sample.scene, sample.question).text for sample in samples]
    return requests, responses


def teach(out: Path, questions: int, passes: int) -> list[float]:
    """Save the taught policy in ``out``; returns the losses."""
    samples = list(make_samples(WARM_UP_SEED, questions))
    segmenter = ReasoningSegmenter(*Models(max_new_tokens=96).load())
    answers = segmenter.batch([s.scene.image for s in samples], [s.question.text for s in samples], temperature=1.0)
    requests, responses = lessons(samples, answers)
    steps = len(requests) // ROWS_PER_STEP
    return train_on(requests, responses, out, seed=0, rate=RATE, steps=steps, passes=passes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the policy")
    parser.add_argument("--questions", type=int, default=QUESTIONS, help="(default: %(default)s)")
    parser.add_argument("--passes", type=int, default=PASSES, help="over the lessons (default: %(default)s)")
    args = parser.parse_args()
    quiet_transformers()
    losses = teach(args.out, args.questions, args.passes)
    print(f"loss {np.mean(losses[:20]):.3f} → {np.mean(losses[-20:]):.3f} in {len(losses)} steps; {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
