"""How long things take to begin: imports, and the first answer of inference_scripts/infer.py. Medians of several runs.

    python benchmarks/start_up.py
    python benchmarks/start_up.py --runs 9 --skip_answer

Every run is a new process, timed from its start to its end. The time to the first training step is measured by
benchmarks/training_speed.py.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("seg_zero", "seg_zero.answer", "seg_zero.prompting", "seg_zero.metrics.reasoning", "rewards")


def seconds(command: Sequence[str]) -> float:
    """Run a command to its end. Ends the program if it fails."""
    started = time.perf_counter()
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{result.stdout}\n{result.stderr[-3000:]}")
    return time.perf_counter() - started


def report(name: str, command: Sequence[str], runs: int) -> None:
    """Median, fastest and slowest of ``runs`` after one that fills the caches."""
    seconds(command)
    found = [seconds(command) for _ in range(runs)]
    print(f"{name:<34}{statistics.median(found):>8.2f}{min(found):>10.2f}{max(found):>10.2f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--skip_answer", action="store_true", help="imports only")
    args = parser.parse_args()
    if args.runs < 1:
        parser.error(f"--runs {args.runs} must be at least 1")
    print(f"{'seconds, of ' + str(args.runs) + ' runs':<34}{'median':>8}{'fastest':>10}{'slowest':>10}")
    report("python alone", [sys.executable, "-c", ""], args.runs)
    for module in MODULES:
        report(f"import {module}", [sys.executable, "-c", f"import {module}"], args.runs)
    if not args.skip_answer:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "inference_scripts/infer.py", "--output_path", str(Path(folder) / "mask.png")]
            report("inference_scripts/infer.py", command, args.runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
