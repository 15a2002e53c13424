"""What the default CPU run teaches the embedded policy: the demo's first training, with seeds, validated on the way.

    python -m benchmarks.learning.default_run              # seeds 1, 2 and 3, about seven minutes each on two cores
    python -m benchmarks.learning.default_run --seeds 4

Prints a table of held-out numbers before and after with paired 95 % intervals over the questions, and draws the curves
of all seeds to OUT/curves.png. Finished seeds are kept and not run again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.cli.demo.curves import read_curves, running_mean
from seg_zero.evaluation.predictions import Prediction
from seg_zero.evaluation.store import read_predictions
from seg_zero.files import write_image, write_text
from seg_zero.statistics import paired_difference
from seg_zero.visualize.html_page import pyplot, rendered

VALIDATION = ("trainer.test_freq=5", "trainer.val_before_train=true", "data.val_max_samples=150")
CURVES = {
    "validation/gIoU": "held-out gIoU, greedy, 150 questions",
    "reward/score/mean": "reward of the samples, sum of the terms (at most 7)",
    "reward/box_iou/mean": "mean box IoU of the samples",
    "reward/iou_soft/mean": "reward term iou_soft: the IoU",
    "reward/box_l1/mean": "reward term box_l1",
    "reward/point/mean": "reward term point",
    "actor/kl_loss": "KL to the start",
    "actor/entropy": "entropy, nats per token",
    "response_length/mean": "response length, tokens",
}


def run_seed(seed: int, out: Path) -> Path:
    """The folder of a seed's demo, made if it is not there."""
    folder = out / f"seed_{seed}"
    if not (folder / "index.html").exists():
        command = [sys.executable, "-m", "seg_zero.cli", "demo", "--seed", str(seed), "--out", str(folder)]
        subprocess.run([*command, "--reasoning_steps", "0", *VALIDATION], check=True)
    return folder


def _change(before: Sequence[float], after: Sequence[float]) -> str:
    found = paired_difference(before, after)
    return f"{np.mean(before):.3f} → {np.mean(after):.3f} | {found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def _shares(before: Sequence[Prediction], after: Sequence[Prediction], no_target: bool) -> str:
    """How often the answer was empty, of the questions with or without a target."""
    shares = (
        np.mean([not p.unusable and p.named == 0 for p in some if p.no_target == no_target]) for some in (before, after)
    )
    return " → ".join(f"{share:.2f}" for share in shares)


def table(folders: dict[int, Path]) -> str:
    """Markdown: a line per seed."""
    lines = [
        "| seed | gIoU | gain | box accuracy@0.5 | gain | empty answers where nothing is | elsewhere |",
        "|---|---|---|---|---|---|---|",
    ]
    for seed, folder in folders.items():
        before, after = (read_predictions(folder / name) for name in ("before", "after"))
        iou = _change([p.iou for p in before], [p.iou for p in after])
        hit = _change([float(p.box_iou > 0.5) for p in before], [float(p.box_iou > 0.5) for p in after])
        empty = [_shares(before, after, no_target) for no_target in (True, False)]
        lines.append(f"| {seed} | {iou} | {hit} | {' | '.join(empty)} |")
    return "\n".join(lines) + "\n"


def draw(folders: dict[int, Path], columns: int = 3) -> Any:
    """One panel per curve, a line per seed; what is noisy also as the mean of 5 steps."""
    plt = pyplot()
    figure, axes = plt.subplots(
        -(-len(CURVES) // columns), columns, figsize=(4.2 * columns, 2.5 * -(-len(CURVES) // columns)), dpi=100
    )
    runs = {seed: read_curves(folder / "train" / "metrics.jsonl", CURVES) for seed, folder in folders.items()}
    for axis, (key, title) in zip(axes.flat, CURVES.items(), strict=False):
        for number, (seed, curves) in enumerate(runs.items()):
            steps, values = curves[key]
            colour = f"C{number}"
            if key.startswith("validation"):
                axis.plot(steps, values, color=colour, marker="o", markersize=3, label=f"seed {seed}")
                continue
            axis.plot(steps, values, color=colour, linewidth=0.8, alpha=0.35)
            smooth = running_mean(values)
            axis.plot(steps[-len(smooth) :], smooth, color=colour, linewidth=1.8)
        axis.set_title(title, loc="left", fontsize=10)
        axis.grid(color="#eef0f3")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    axes.flat[0].legend(fontsize=8, frameon=False)
    for axis in axes[-1]:
        axis.set_xlabel("training step", fontsize=9)
    figure.tight_layout()
    return rendered(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/results"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    folders = {seed: run_seed(seed, args.out.resolve()) for seed in args.seeds}
    text = table(folders)
    write_text(args.out / "results.md", text)
    write_image(args.out / "curves.png", draw(folders))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
