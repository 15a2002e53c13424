"""Runs of a study whose results are kept, so that its command can be interrupted and called again."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.cli.demo import describe_machine
from seg_zero.files import read_json, write_json, write_text
from seg_zero.policy.loading import quiet_transformers

RESULT = "result.json"
START = "start"  # the run that trains nothing

Result = dict[str, Any]


def kept_run(folder: Path, make: Callable[[], Result], discard: Sequence[str]) -> Result:
    """The result kept in ``folder``; if there is none, what ``make`` returns, called with the folder new and empty.

    discard: files and folders in it that are removed when the result has been written.
    """
    done = folder / RESULT
    if done.exists():
        result: Result = read_json(done)
        return result
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    result = make()
    write_json(done, result)
    for part in discard:
        shutil.rmtree(folder / part, ignore_errors=True)
    return result


def kept_results(folder: Path, key: str, names: Sequence[str]) -> dict[str, list[Result]]:
    """Results kept in folders of ``folder`` by what stands under ``key``, in the order of ``names`` and by seed."""
    found = [read_json(path) for path in sorted(folder.glob(f"*/{RESULT}"))]
    by_name = {name: sorted((one for one in found if one[key] == name), key=lambda one: one["seed"]) for name in names}
    return {name: some for name, some in by_name.items() if some}


def of_seeds(values: Sequence[float]) -> str:
    """The mean, and the lowest and highest seed."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"  # noqa: RUF001


def run_arms(
    description: str,
    out: Path,
    arms: Sequence[str],
    run: Callable[[str, int, int, str | None, Path], Result],
    report: Callable[[Sequence[Result]], str],
) -> int:
    """The command line of a study: the start and each arm with each seed, then the report.

    out: where results go, unless told otherwise. run: takes an arm's name, seed, steps, the folder of the policy to
    begin with or None, and the folder for all runs. report: Markdown of all results.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=out, help="a folder per --steps in it (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=40, help="training steps (default: %(default)s)")
    parser.add_argument("--arms", nargs="+", choices=arms, default=arms, help="the start is judged, too (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--start", type=Path, help="folder of the policy to begin with (default: the embedded one)")
    parser.add_argument("--report", action="store_true", help="train nothing")
    args = parser.parse_args()
    quiet_transformers()
    folder = args.out.resolve() / f"{args.steps}_steps"
    if not args.report:
        for name, seed in [(START, 0), *((name, seed) for seed in args.seeds for name in args.arms)]:
            run(name, seed, args.steps, args.start and str(args.start.resolve()), folder)
            print(f"{name} {seed or ''}: done", flush=True)
    results = [one for some in kept_results(folder, "arm", [START, *arms]).values() for one in some]
    text = f"{report(results)}; {args.steps} steps; {describe_machine()}\n"
    write_text(folder / "results.md", text)
    print(text)
    return 0
