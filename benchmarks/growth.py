"""How step time and memory grow with questions per step, answers per question, answer length and dataset rows.

    python benchmarks/growth.py                       # embedded policy, the whole trainer, 13 short runs
    python benchmarks/growth.py --factors 1 2 4

From a small base one number at a time is made 2, 4 and 8 times as large. Answers are forced to their full length, so
that the work is known. Time is the median of the steps after the first, memory that of all processes of the run, less
what they share. Writes growth.md and growth.png to --out; a slope of 1 in the log-log plot is linear growth.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.command_line import quoted
from seg_zero.data.synthetic.rows import TRAIN_SEED, write_split
from seg_zero.files import write_image, write_text
from seg_zero.training.trainer.metrics_log import read_metrics
from seg_zero.visualize.html_page import pyplot, rendered

ROOT = Path(__file__).resolve().parents[1]
BASE = {"questions per step": 4, "answers per question": 4, "tokens per answer": 32, "dataset rows": 128}
STEPS = 5


def measure(sizes: dict[str, int], out: Path) -> dict[str, float]:
    """One run; seconds per step, memory in GiB, and seconds from the command to the end of the first step."""
    rows = out / f"rows_{sizes['dataset rows']}.parquet"
    if not rows.exists():
        write_split(rows, TRAIN_SEED, sizes["dataset rows"])
    run = out / "run"
    shutil.rmtree(run, ignore_errors=True)
    command = [
        "bash",
        str(ROOT / "training_scripts" / "run_tiny_cpu.sh"),
        f"data.train_files={quoted(rows)}",
        f"data.val_files={quoted(rows)}",
        "data.val_max_samples=4",
        f"data.train_batch_size={sizes['questions per step']}",
        f"worker.rollout.n={sizes['answers per question']}",
        f"data.max_response_length={sizes['tokens per answer']}",
        "actor_rollout_ref.rollout.ignore_eos=true",
        f"trainer.total_training_steps={STEPS}",
        "trainer.save_freq=-1",
        "trainer.test_freq=-1",
        "trainer.val_before_train=false",
        f"output_dir={quoted(run)}",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    steps = read_metrics(run / "metrics.jsonl")
    assert all(step["response_length/min"] == sizes["tokens per answer"] for step in steps)
    return {
        "seconds": float(np.median([step["timing_s/step"] for step in steps[1:]])),
        "memory": max(step["perf/run_private_memory_gib"] for step in steps),
    }


def table(found: dict[str, dict[int, dict[str, float]]]) -> str:
    factors = list(next(iter(found.values())))
    lines = [f"| | {' | '.join(f'{factor}×' for factor in factors)} | slope |"]  # noqa: RUF001
    lines.append("|---" * (len(factors) + 2) + "|")
    for name, values in found.items():
        for key, unit in (("seconds", "s per step"), ("memory", "GiB")):
            cells = [f"{values[factor][key]:.2f}" for factor in factors]
            lines.append(f"| {name} from {BASE[name]}, {unit} | {' | '.join(cells)} | {slope(values, key):.2f} |")
    return "\n".join(lines) + "\n"


def slope(values: dict[int, dict[str, float]], key: str) -> float:
    """Of the last doubling: 1 is linear growth, more is worse than that."""
    smaller, larger = sorted(values)[-2:]
    return float(np.log(values[larger][key] / values[smaller][key]) / np.log(larger / smaller))


def plot(found: dict[str, dict[int, dict[str, float]]]) -> Any:
    plt = pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), dpi=110, layout="constrained")
    for axis, key, title in zip(axes, ("seconds", "memory"), ("seconds per step", "memory, GiB"), strict=True):
        for name, values in found.items():
            axis.plot(list(values), [value[key] for value in values.values()], marker="o", label=name)
        factors = list(next(iter(found.values())))
        base = next(iter(found.values()))[1][key]
        axis.plot(factors, [base * factor for factor in factors], color="#98a2b3", linestyle="--", label="linear")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.set_xticks(factors, [f"{factor}×" for factor in factors])  # noqa: RUF001
        axis.yaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_title(title, loc="left", fontsize=11)
        axis.grid(color="#eef0f3")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(fontsize=8, frameon=False)
    return rendered(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/growth"))
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 2, 4, 8])
    args = parser.parse_args()
    if len(args.factors) < 2 or args.factors != sorted(set(args.factors)) or args.factors[0] != 1:
        parser.error(f"--factors {args.factors} must begin with 1 and rise")
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    base = measure(BASE, out)
    print(f"base {BASE}: {base}", flush=True)
    found: dict[str, dict[int, dict[str, float]]] = {name: {1: base} for name in BASE}
    for name in BASE:
        for factor in args.factors[1:]:
            found[name][factor] = measure({**BASE, name: BASE[name] * factor}, out)
            print(f"{name} {factor} times: {found[name][factor]}", flush=True)
    text = table(found)
    write_text(out / "growth.md", text)
    write_image(out / "growth.png", plot(found))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
