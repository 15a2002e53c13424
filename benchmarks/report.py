"""Runs the benchmarks of this folder one after the other and writes what they print to one dated report.

    python benchmarks/report.py                              # all of them: the better part of an hour on two cores
    python benchmarks/report.py --only start_up reward_terms
    python benchmarks/report.py --trl_python /tmp/trl/venv/bin/python     # with TRL; see training_speed.py

The report is OUT/report.md: machine, versions and date, then for each benchmark its command and its output. A benchmark
that fails is shown with its error, the others still run, and the exit code is 1. docs/benchmarks.md says what the
numbers mean. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from seg_zero.cli.demo import describe_machine
from seg_zero.files import write_text

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Benchmark:
    """A script of this folder with its options, and what it compares."""

    name: str
    title: str
    options: tuple[str, ...] = ()

    def command(self) -> list[str]:
        return ["python", f"benchmarks/{self.name}.py", *self.options]


def benchmarks(out: Path, trl_python: Path | None) -> list[Benchmark]:
    peer = ("--trl_python", str(trl_python), "--trl_vllm") if trl_python else ()
    return [
        Benchmark("training_speed", "A GRPO step" + (" against TRL" if trl_python else ""), ("--steps", "8", *peer)),
        Benchmark("shared_prefix", "Passes with shared prefixes against separate rows"),
        Benchmark("growth", "A step as its sizes grow", ("--out", str(out / "growth"))),
        Benchmark("start_up", "What starting takes"),
        Benchmark("reward_terms", "The reward against loops over pairs"),
        Benchmark("mask_reward", "SAM2 in the reward against one image and object at a time"),
        Benchmark("data", "Opening and reading a dataset", ("--rows", "20000", "--folder", str(out / "data"))),
        Benchmark("ask", "One question"),
        Benchmark("dialogue", "A dialogue against single questions"),
        Benchmark("evaluation", "An evaluation against batches of transformers"),
        Benchmark("serve", "Many users of one server"),
        Benchmark("merge", "Merging against verl's merger"),
    ]


def run(benchmark: Benchmark) -> tuple[str, bool]:
    """What it printed, and whether it succeeded; shown while it runs."""
    command = [sys.executable, *benchmark.command()[1:]]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    return "".join(lines), process.wait() == 0


def section(benchmark: Benchmark, output: str, succeeded: bool, seconds: float) -> str:
    """Markdown; what is a table already stays one."""
    failed = "" if succeeded else "**Failed.**\n\n"
    body = output.strip()
    shown = body if body.startswith("|") else f"```\n{body}\n```"
    command = shlex.join(benchmark.command())
    return f"## {benchmark.title}\n\n    {command}\n\n{failed}{shown}\n\nTook {seconds:.0f} s.\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks"))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of scripts (default: all)")
    parser.add_argument("--trl_python", type=Path, help="interpreter of TRL's environment (default: without TRL)")
    args = parser.parse_args()
    out = args.out.resolve()
    chosen = benchmarks(out.relative_to(ROOT) if out.is_relative_to(ROOT) else out, args.trl_python)
    names = [benchmark.name for benchmark in chosen]
    unknown = sorted(set(args.only or ()) - set(names))
    if unknown:
        parser.error(f"--only {' '.join(unknown)}: not among {', '.join(names)}")
    parts, succeeded = [f"# Benchmarks\n\n{describe_machine()}\n"], True
    for benchmark in chosen:
        if args.only and benchmark.name not in args.only:
            continue
        print(f"\n== {benchmark.title}: {shlex.join(benchmark.command())}", flush=True)
        start = time.perf_counter()
        output, well = run(benchmark)
        succeeded = succeeded and well
        parts.append(section(benchmark, output, well, time.perf_counter() - start))
        write_text(out / "report.md", "\n".join(parts))
    print(f"\n{out / 'report.md'}")
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
