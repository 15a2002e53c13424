"""Whether greedy answers depend on the batch size, in float32 and in bfloat16.

    python benchmarks/batch_answers.py                                    # embedded models, 120 questions
    python benchmarks/batch_answers.py --device cuda --questions 300 --batch_sizes 1 8 32

Held-out synthetic questions through transformers and seg_zero.evaluation; SAM2 batches the same rows whatever the batch
size. Columns: texts that differ from those of the first batch size in this precision, objects read from them that
differ, IoUs that differ by more than 0.001, mean IoU, and rows a second without start-up.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from seg_zero.data.rows import Row
from seg_zero.data.synthetic.rows import HELD_OUT_SEED, sample_to_row
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.devices import DTYPES, choose_device
from seg_zero.errors import run_command
from seg_zero.evaluation.answering import answer_rows
from seg_zero.evaluation.predictions import Prediction
from seg_zero.policy import TransformersPolicy
from seg_zero.policy.loading import quiet_transformers
from seg_zero.segmenter import Segmenter, load_segmenter

NEW_TOKENS = 96
SAME_IOU = 1e-3


def answers(policy: TransformersPolicy, segmenter: Segmenter, rows: Sequence[Row]) -> list[Prediction]:
    found = answer_rows(policy, segmenter, rows, range(len(rows)))
    return sorted(found, key=lambda prediction: prediction.row)


def differing(one: list[Prediction], other: list[Prediction], what: Callable[[Prediction], Any]) -> int:
    return sum(what(a) != what(b) for a, b in zip(one, other, strict=True))


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", help="folder (default: the embedded one)")
    parser.add_argument("--questions", type=int, default=120)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32", "bfloat16"])
    parser.add_argument("--device", help="(default: cuda if there is one)")
    args = parser.parse_args(argv)
    quiet_transformers()
    device = choose_device(args.device)
    samples = make_samples(HELD_OUT_SEED, args.questions)
    rows = [sample_to_row(sample, f"synthetic-{number}") for number, sample in enumerate(samples)]
    segmenter = load_segmenter(device=device)
    print(f"{args.questions} questions on {device}")
    print(f"{'precision':<10}{'batch':>6}{'texts':>8}{'objects':>9}{'IoUs':>6}{'gIoU':>9}{'rows/s':>8}")
    for dtype in args.dtypes:
        policy = TransformersPolicy.from_pretrained(
            args.policy, device=device, dtype=dtype, max_new_tokens=NEW_TOKENS, batch_size=max(args.batch_sizes)
        )
        answers(policy, segmenter, rows[: max(args.batch_sizes)])  # the first run of everything is slower
        first: list[Prediction] | None = None
        for size in args.batch_sizes:
            policy.in_flight = size
            start = time.perf_counter()
            found = answers(policy, segmenter, rows)
            seconds = time.perf_counter() - start
            first = first or found
            ious = [np.array([prediction.iou for prediction in some]) for some in (first, found)]
            counts = (
                differing(first, found, lambda prediction: prediction.texts),
                differing(first, found, lambda prediction: prediction.objects),
                int((np.abs(ious[0] - ious[1]) > SAME_IOU).sum()),
            )
            line = f"{dtype:<10}{size:>6}{counts[0]:>8}{counts[1]:>9}{counts[2]:>6}"
            print(f"{line}{ious[1].mean():>9.4f}{len(rows) / seconds:>8.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
