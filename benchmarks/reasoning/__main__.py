"""Whether reward alone teaches a policy to chain hops, against supervised training: tables and a plot.

    python -m benchmarks.reasoning                                # all missing runs, then the report
    python -m benchmarks.reasoning --arms start GRPO --seeds 1
    python -m benchmarks.reasoning --start outputs/hop_start      # of another start, by seg_zero.models.train_hop_start
    python -m benchmarks.reasoning --report                       # only the report

Every arm goes on from the start on the same questions of one and two hops, --steps steps of 16 questions, and then
answers --held-out questions of each set: one and two hops as trained, two hops in pairs that are not in the training
rows, three hops and four. GRPO samples --answers answers to each question and is rewarded for the answer alone, except
in the ablation; supervised arms make as many epochs, and the arm of two stages has both. Finished runs are kept in
--out, so that the command can be interrupted and called again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from seg_zero.policy.model_files import HOP_START


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reasoning", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--start", type=Path, default=HOP_START, help="of all arms (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("outputs/reasoning"))
    parser.add_argument("--steps", type=int, default=40, help="training steps (default: %(default)s)")
    parser.add_argument("--answers", type=int, default=8, help="to each question (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=100, help="questions of each set (default: %(default)s)")
    parser.add_argument(
        "--arms", nargs="+", help='names as in the tables, such as "GRPO, empty thought" (default: all)'
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--report", action="store_true", help="train nothing")
    args = parser.parse_args(argv)

    from benchmarks.reasoning.arms import named
    from benchmarks.reasoning.report import write_report
    from benchmarks.reasoning.runs import Plan, run
    from seg_zero.errors import InputError
    from seg_zero.files import make_folder
    from seg_zero.policy.loading import quiet_transformers

    quiet_transformers()
    folder = args.out.resolve()
    try:
        if not args.report:
            if not (args.start / "config.json").is_file():
                raise InputError(f"--start {args.start} is no policy: there is no config.json in it")
            arms = named(args.arms)
            make_folder(folder)
            plan = Plan(args.start.resolve(), args.steps, args.answers, held_out=args.held_out)
            plan.check(folder)
            for seed in args.seeds:
                for arm in arms:
                    result = run(arm, seed if arm.trained else 0, plan, folder)  # one run of what is not trained
                    print(f"{arm.name}, seed {result['seed']}: {result['seconds']:.0f} s", flush=True)
        print(write_report(folder))
    except InputError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
