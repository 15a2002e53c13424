"""How a policy answers questions of several hops, and whether its written steps are the right objects.

    python -m benchmarks.reasoning.judge                                 # the start, greedy, 100 questions of each set
    python -m benchmarks.reasoning.judge FOLDER --samples 64 --questions 50 --sets 2 3 4

Prints a table with a line per set. With --samples, that many answers are sampled at temperature 1, and pass@n is given
for the powers of two up to it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from seg_zero.data.synthetic.hops import HOP_SETS
from seg_zero.evaluation.hops import MAX_NEW_TOKENS, judge_hops
from seg_zero.evaluation.steps import hop_table
from seg_zero.files import write_text
from seg_zero.policy import GREEDY, Sampling
from seg_zero.policy.model_files import HOP_START


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reasoning.judge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "policy", type=Path, nargs="?", default=HOP_START, metavar="FOLDER", help="of a policy (default: the start)"
    )
    parser.add_argument("--sets", nargs="+", choices=tuple(HOP_SETS), default=list(HOP_SETS), metavar="SET")
    parser.add_argument("--questions", type=int, default=100, help="of each set (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=0, help="sampled answers per question (default: one, greedy)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument("--out", type=Path, help="file to write the table to as well")
    args = parser.parse_args(argv)
    if args.questions < 1 or args.samples < 0:
        parser.error(
            f"--questions {args.questions} --samples {args.samples}: at least one question, no negative samples"
        )

    from seg_zero.policy.loading import load_policy, quiet_transformers

    quiet_transformers()
    policy = load_policy(args.policy, max_new_tokens=MAX_NEW_TOKENS, batch_size=32)
    sampling = Sampling(args.samples, 1.0, args.seed) if args.samples else GREEDY
    text = hop_table(judge_hops(policy, args.sets, args.questions, sampling))
    print(text)
    if args.out is not None:
        write_text(args.out, text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
