"""Tables and a plot of the runs that are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kept_runs import kept_results, of_seeds
from benchmarks.reasoning.arms import ARMS, GRPO, START
from benchmarks.reasoning.runs import mean_iou
from seg_zero.cli.demo.chains import draw_chains
from seg_zero.data.synthetic.hops import HOP_SETS
from seg_zero.data.synthetic.shortcuts import possible_targets
from seg_zero.evaluation.hops import held_out
from seg_zero.files import write_image, write_text
from seg_zero.statistics import paired_difference
from seg_zero.visualize.html_page import pyplot, rendered

PICTURED = ("2", "3", "4")  # sets whose first questions are drawn with the steps of the start and of GRPO
Results = dict[str, list[dict[str, Any]]]
PANELS = {
    "response_length/mean": "length of the sampled responses, tokens",
    "reward/box_iou/mean": "mean box IoU of the samples",
    "reward/flat_groups": "fraction of groups with equal rewards (no advantage)",
}


def read_results(folder: Path) -> Results:
    """Results of all runs by arm, in the order of :data:`ARMS` and of the seeds."""
    return kept_results(folder, "arm", [arm.name for arm in ARMS])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _by_set(results: Results, title: str, number: Callable[[dict[str, Any], str], float]) -> str:
    """A line per arm, a column per set."""
    rows = [
        [name, str(len(runs)), *(of_seeds([number(run, one) for run in runs]) for one in HOP_SETS)]
        for name, runs in results.items()
    ]
    return _table([title, "seeds", *HOP_SETS], rows)


def _mean_of(measure: str) -> Callable[[dict[str, Any], str], float]:
    return lambda run, name: float(np.mean(run["sets"][name][measure]))


def _guessed(results: Results) -> str:
    """A line for the table of accuracies: a guess among the shapes that each question could ask for."""
    counts = {one: len(next(iter(results.values()))[0]["sets"][one]["iou"]) for one in HOP_SETS}
    drawn = {one: [held_out(one, index) for index in range(count)] for one, count in counts.items()}
    means = [np.mean([1 / possible_targets(*question).sum() for question in drawn[one]]) for one in HOP_SETS]
    return f"\n| a guess |  | {' | '.join(f'{mean:.3f}' for mean in means)} |"


def _against_grpo(results: Results) -> str:
    """How much better GRPO is than each other arm: difference of the rows' mean IoU over the seeds."""
    rows = []
    for name, runs in results.items():
        if name == GRPO.name or GRPO.name not in results:
            continue
        cells = []
        for one in HOP_SETS:
            theirs, ours = (
                np.mean([run["sets"][one]["iou"] for run in some], axis=0) for some in (runs, results[GRPO.name])
            )
            found = paired_difference(theirs, ours)
            cells.append(f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})")
        rows.append([name, *cells])
    return _table(["gIoU of GRPO less that of", *HOP_SETS], rows)


def tables(results: Results) -> str:
    """Markdown of all tables."""
    parts = [
        _by_set(results, "gIoU", mean_iou),
        _against_grpo(results),
        _by_set(results, "accuracy (box IoU above 0.5)", _mean_of("right")) + (_guessed(results) if results else ""),
        _by_set(results, "hops written", _mean_of("hops")),
        _by_set(results, "steps complete", _mean_of("complete")),
        _by_set(results, "tokens", _mean_of("tokens")),
    ]
    return "\n\n".join(parts) + "\n"


def _plot(results: Results) -> Any:
    """gIoU by set, and the curves of the GRPO runs: a thin line per seed, a thick one for their mean."""
    plt = pyplot()
    figure, grid = plt.subplots(2, 2, figsize=(9.2, 6.4), dpi=110, layout="constrained")
    axes = grid.flat
    names = list(HOP_SETS)
    for number, (arm, runs) in enumerate(results.items()):
        colour = f"C{number}"
        scores = np.array([[mean_iou(run, name) for name in names] for run in runs])
        axes[0].plot(names, scores.mean(axis=0), "o-", color=colour, label=f"{arm} ({len(runs)})")
        axes[0].vlines(names, scores.min(axis=0), scores.max(axis=0), color=colour)
        for axis, metric in zip(axes[1:], PANELS, strict=True):
            curves = [run["curves"][metric] for run in runs if metric in run["curves"]]
            for curve in curves:
                axis.plot(range(1, len(curve) + 1), curve, color=colour, linewidth=0.7, alpha=0.4)
            if curves:
                axis.plot(range(1, len(curves[0]) + 1), np.mean(curves, axis=0), color=colour, linewidth=1.8)
    axes[0].set_title("held-out gIoU by hops", loc="left", fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    for axis, title in zip(axes[1:], PANELS.values(), strict=True):
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_xlabel("training step", fontsize=9)
    for axis in axes:
        axis.grid(color="#eef0f3")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return rendered(figure)


def write_report(folder: Path) -> str:
    """``reasoning.md``, ``reasoning.png`` and, of the start and GRPO, ``chains_SET.png``; returns the text."""
    results = read_results(folder)
    text = tables(results)
    write_text(folder / "reasoning.md", text)
    if results:
        write_image(folder / "reasoning.png", _plot(results))
    if START.name in results and GRPO.name in results:
        for name in PICTURED:
            texts = {arm: results[arm][0]["sets"][name]["texts"] for arm in (START.name, GRPO.name)}
            write_image(folder / f"chains_{name}.png", draw_chains(name, texts))
    return text
