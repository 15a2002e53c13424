"""The curves of the demo's training: which of them say something, what they mean, and how they are drawn."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from seg_zero.visualize.html_page import plot, pyplot

Curve = tuple[Sequence[float], Sequence[float]]  # steps and values

TERM = re.compile(r"reward/(\w+)/mean")
WINDOW = 5  # steps of the running mean
FLAT = 0.1  # of a curve's height, by which its running mean has to move

# Title and meaning of the curves that tell the story, in the order of reading.
STORY = {
    "reward/score/mean": ("Score", "The weighted sum of all reward terms: what training raises."),
    "reward/box_iou/mean": ("Overlap of boxes", "Mean IoU of the written boxes with the true ones; 1 is perfect."),
    "reward/point/mean": ("Points on the target", "Fraction of the points that lie on the right object."),
    "actor/entropy": ("Indecision (entropy)", "How evenly the policy spreads its bets on the next word; 0 is certain."),
    "actor/kl_loss": ("Distance from the start (KL)", "How far the policy has moved from what it was before training."),
    "response_length/mean": ("Length of an answer", "In tokens, which are pieces of words."),
}


def read_curves(metrics: Path, keys: Iterable[str] | None = None) -> dict[str, Curve]:
    """Steps and values of a run's ``metrics.jsonl``, by key: those of STORY, and every reward term.

    keys: others in their place; one that was never logged is left out.
    """
    steps = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    if keys is None:
        keys = [*STORY, *sorted({key for step in steps for key in step if TERM.fullmatch(key)} - {*STORY})]
    found = {key: [(float(step["step"]), float(step[key])) for step in steps if key in step] for key in keys}
    return {key: ([x for x, _ in points], [y for _, y in points]) for key, points in found.items() if points}


def running_mean(values: Sequence[float]) -> np.ndarray:
    """Mean over WINDOW steps, one value fewer than WINDOW shorter than ``values``; all of them if they are fewer."""
    window = min(WINDOW, len(values))
    return np.convolve(values, np.ones(window) / window, mode="valid")


def says_something(values: Sequence[float]) -> bool:
    """Whether a curve moves: its running mean by more than FLAT of its greatest distance from 0."""
    mean = running_mean(values)
    return len(values) >= WINDOW and float(np.ptp(mean)) > FLAT * float(np.abs(mean).max())


def draw_curve(title: str, curve: Curve) -> str:
    """One curve as an image: every step thin, the running mean thick; the axis starts at 0."""
    steps, values = curve
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(4.2, 2.5), layout="constrained")
    axis.plot(steps, values, color="#8fb0ea", linewidth=1)
    mean = running_mean(values)
    axis.plot(steps[len(steps) - len(mean) :], mean, color="#1d4ed8", linewidth=2.5)
    top = max(*values, 1e-9)
    axis.set_ylim(min(0.0, *values), 1.0 if 0.6 < top <= 1 else 1.08 * top)
    axis.set_xlabel("training step", fontsize=12)
    axis.grid(color="#e4e7ec")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=12)
    axis.locator_params(axis="y", nbins=5)
    axis.locator_params(axis="x", nbins=6, integer=True)
    return plot(figure, f"{title}: {mean[0]:.2f} at the start, {mean[-1]:.2f} at the end")


def curves_section(curves: Mapping[str, Curve]) -> str:
    """The curves of the story that move, and in words the reward terms that do not."""
    shown = [key for key in STORY if key in curves and says_something(curves[key][1])]
    figures = "".join(
        f"<figure><h3>{html.escape(STORY[key][0])}</h3><p>{html.escape(STORY[key][1])}</p>"
        f"{draw_curve(STORY[key][0], curves[key])}</figure>"
        for key in shown
    )
    plots = f'<div class="plots">{figures}</div>' if figures else "<p>None of the curves moved in so few steps.</p>"
    return plots + _terms({found[1]: values for key, (_, values) in curves.items() if (found := TERM.fullmatch(key))})


def _terms(terms: Mapping[str, Sequence[float]]) -> str:
    """A table of the rewards at the start and the end: the score, its terms, and what else is measured."""
    lines = []
    for name, values in terms.items():
        mean = running_mean(values)
        still = "" if says_something(values) or len(values) < WINDOW else " <small>hardly moved</small>"
        lines.append(f"<tr><td>{html.escape(name)}{still}</td><td>{mean[0]:.2f}</td><td>{mean[-1]:.2f}</td></tr>")
    if not lines:
        return ""
    return (
        "<details><summary>All rewards in numbers</summary><p class='note'>Means over the answers of the first and the "
        f"last {WINDOW} steps. docs/rewards.md describes the terms, the rules that score an answer.</p>"
        f"<table><tr><th>reward</th><th>start</th><th>end</th></tr>{''.join(lines)}</table></details>"
    )
