"""Tables and plots of the runs that are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kept_runs import kept_results, of_seeds
from benchmarks.learning.runs import DEFAULT, SETTINGS, SPLITS, START, Setting
from benchmarks.learning.splits import FAR_KINDS
from seg_zero.files import write_image, write_text
from seg_zero.statistics import paired_difference
from seg_zero.visualize.html_page import pyplot, rendered

TITLES = {
    "samples": "Answers per question",
    "kl": "Weight of the KL to the start (default 0.005)",
    "reward": "Reward",
    "prompt": "What is taught and given to SAM2",
    "supervised": "GRPO against more supervised training",
}
COLOURS = {"near": "#1d4ed8", "far": "#c2410c"}
Results = dict[str, list[dict[str, Any]]]


def _settings(results: Results, study: str) -> list[Setting]:
    """The start, the default and a study's own settings, as far as they were run."""
    return [s for s in SETTINGS if s.name in results and (s in (START, DEFAULT) or s.study == study)]


def _giou(result: dict[str, Any], split: str, prompt: str, kind: str | None = None) -> float:
    rows = zip(result[split]["iou"][prompt], result[split]["kind"], strict=True)
    return float(np.mean([iou for iou, k in rows if kind in (None, k)]))


def _difference(results: Results, setting: Setting, split: str) -> str:
    """Of the rows' mean IoU over the seeds, to the default."""
    if setting is DEFAULT or DEFAULT.name not in results:
        return ""
    ours, default = (
        np.mean([run[split]["iou"][prompt] for run in results[name]], axis=0)
        for name, prompt in ((setting.name, setting.prompt), (DEFAULT.name, DEFAULT.prompt))
    )
    found = paired_difference(default, ours)
    return f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _settings_table(results: Results) -> str:
    """A line per setting, in the order of SETTINGS."""
    heads = [
        "setting",
        "seeds",
        "near gIoU",
        "vs. default",
        "far gIoU",
        "vs. default",
        "near box acc",
        "correct empty answers",
    ]
    lines = [_line(heads), "|---" * len(heads) + "|"]
    for setting in SETTINGS:
        runs = results.get(setting.name, [])
        if runs:
            cells = [setting.name, str(len(runs))]
            for split in SPLITS:
                cells.append(of_seeds([_giou(run, split, setting.prompt) for run in runs]))
                cells.append(_difference(results, setting, split))
            for measure in ("box_hit", "rightly_empty"):
                cells.append(of_seeds([float(np.mean(run["near"][measure])) for run in runs]))
            lines.append(_line(cells))
    return "\n".join(lines)


def _far_table(results: Results) -> str:
    """GRPO and the supervised peer on each kind of question that was not trained on."""
    lines = [_line(["far gIoU", *FAR_KINDS]), "|---" * (len(FAR_KINDS) + 1) + "|"]
    for setting in _settings(results, "supervised"):
        runs = results[setting.name]
        cells = [of_seeds([_giou(run, "far", setting.prompt, kind) for run in runs]) for kind in FAR_KINDS]
        lines.append(_line([setting.name, *cells]))
    return "\n".join(lines)


def _settings_plot(results: Results, studies: Sequence[str]) -> Any:
    """One panel per study: a dot per seed and a bar at the mean, near and far. The start, far below all GRPO runs, is
    drawn only beside the supervised ones."""
    plt = pyplot()
    columns = 2
    figure, axes = plt.subplots(
        -(-len(studies) // columns), columns, figsize=(11, 3.4 * -(-len(studies) // columns)), squeeze=False, dpi=110,
        layout="constrained",
    )  # fmt: skip
    for axis in axes.flat[len(studies) :]:
        axis.axis("off")
    grpo = [axis for axis, study in zip(axes.flat, studies, strict=False) if study != "supervised"]
    for axis in grpo[1:]:
        axis.sharey(grpo[0])
    for axis, study in zip(axes.flat, studies, strict=False):
        settings = [s for s in _settings(results, study) if s is not START or study == "supervised"]
        for place, setting in enumerate(settings):
            for split, shift in (("near", -0.13), ("far", 0.13)):
                values = [_giou(run, split, setting.prompt) for run in results[setting.name]]
                axis.plot([place + shift] * len(values), values, "o", color=COLOURS[split], alpha=0.55, markersize=5)
                mean = float(np.mean(values))
                axis.plot([place + shift - 0.1, place + shift + 0.1], [mean, mean], color=COLOURS[split], linewidth=2.5)
        names = [setting.name.replace(", ", "\n") for setting in settings]
        axis.set_xticks(range(len(settings)), names, fontsize=8)
        axis.set_title(TITLES[study], loc="left", fontsize=11)
        axis.set_ylabel("held-out gIoU", fontsize=9)
        axis.grid(axis="y", color="#eef0f3")
        axis.spines[["top", "right"]].set_visible(False)
    handles = [plt.Line2D([], [], color=colour, marker="o", label=split) for split, colour in COLOURS.items()]
    place = {"loc": "lower right"} if len(studies) % columns else {"loc": "outside upper right", "ncols": 2}
    figure.legend(handles=handles, frameon=False, fontsize=12, **place)
    return rendered(figure)


def _curves_plot(results: Results, studies: Sequence[str], metric: str, label: str) -> Any:
    """One panel per study: a metric of the samples by step, mean of the seeds."""
    plt = pyplot()
    figure, axes = plt.subplots(1, len(studies), figsize=(3.6 * len(studies), 3.2), squeeze=False, dpi=110, sharey=True)
    for axis, study in zip(axes.flat, studies, strict=True):
        for setting in _settings(results, study):
            curves = [run["curves"][metric] for run in results[setting.name] if metric in run["curves"]]
            if curves:
                mean = np.mean(curves, axis=0)
                axis.plot(range(1, len(mean) + 1), mean, label=f"{setting.name} ({len(curves)})", linewidth=1.8)
        axis.set_title(TITLES[study], loc="left", fontsize=10)
        axis.set_xlabel("training step", fontsize=9)
        axis.grid(color="#eef0f3")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=7, frameon=False)
    axes[0][0].set_ylabel(label, fontsize=9)
    figure.tight_layout()
    return rendered(figure)


def write_report(folder: Path) -> str:
    """``learning.md``, ``settings.png`` and ``curves.png`` in ``folder``; returns the text."""
    results = kept_results(folder, "setting", [setting.name for setting in SETTINGS])
    studies = [study for study in TITLES if any(s.study == study and s.name in results for s in SETTINGS)]
    text = f"{_settings_table(results)}\n\n{_far_table(results)}\n"
    write_text(folder / "learning.md", text)
    if studies:
        write_image(folder / "settings.png", _settings_plot(results, studies))
        with_curves = [study for study in studies if study != "supervised"]
        if with_curves:
            picture = _curves_plot(results, with_curves, "reward/box_iou/mean", "mean box IoU of the samples")
            write_image(folder / "curves.png", picture)
    return text
