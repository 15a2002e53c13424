"""What GRPO's settings do to the embedded policy, three seeds each: tables and plots.

    python -m benchmarks.learning                                   # all runs that are missing, then the report
    python -m benchmarks.learning --settings "default,n = 4" --seeds 1
    python -m benchmarks.learning --report                          # only the report, of the runs that are there

A run trains for --steps steps of 16 questions (n = 8 unless said otherwise) and answers 240 held-out questions of the
kind it was trained on ("near") and 180 of kinds that it was not ("far", see splits.py). Finished runs are kept
in --out, so that the command can be interrupted and called again. A GRPO run takes about three minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/study"), help="a folder per --steps in it")
    parser.add_argument("--steps", type=int, default=12, help="training steps (default: %(default)s)")
    parser.add_argument("--settings", help="names, comma-separated as in the table (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--report", action="store_true", help="train nothing")
    args = parser.parse_args()

    from benchmarks.learning.report import write_report
    from benchmarks.learning.runs import SETTINGS, START, run
    from seg_zero.policy.loading import quiet_transformers

    quiet_transformers()
    names = [setting.name for setting in SETTINGS]
    # Names may hold commas themselves.
    wanted = names if args.settings is None else [name for name in names if f",{name}," in f",{args.settings},"]
    if not wanted:
        parser.error(f"--settings {args.settings!r} names none of: {'; '.join(names)}")
    folder = args.out.resolve() / f"{args.steps}_steps"
    if not args.report:
        for seed in args.seeds:
            for setting in SETTINGS:
                if setting.name in wanted:
                    result = run(setting, 0 if setting is START else seed, folder, args.steps)
                    print(f"{setting.name}, seed {seed}: {result['seconds']:.0f} s", flush=True)
    print(write_report(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
