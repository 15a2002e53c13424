"""The demo's HTML page: numbers, reward curves and a gallery, in one self-contained file."""

from __future__ import annotations

import html
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from seg_zero.answer import parse_answer
from seg_zero.data.rows import Row
from seg_zero.evaluation.predictions import Prediction
from seg_zero.evaluation.summary import Summary
from seg_zero.files import write_text
from seg_zero.masks import decode_mask
from seg_zero.prompting import PromptSpec, read_objects
from seg_zero.statistics import paired_difference
from seg_zero.visualize import overlay
from seg_zero.visualize.html_page import document, embedded, pyplot, rendered

KIND_NAMES = {
    "attr": "by attribute",
    "size": "by size",
    "pos": "by position",
    "rel": "by relation",
    "plural": "several objects",
    "none": "no such object",
}

REWARD_MEAN = re.compile(r"reward/\w+/mean")


@dataclass(frozen=True)
class Page:
    """What the page shows; ``curves`` maps a metric's name to its (steps, values)."""

    before: Summary
    after: Summary
    before_predictions: Sequence[Prediction]
    after_predictions: Sequence[Prediction]
    rows: Sequence[Row]
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    spec: PromptSpec
    seconds: Mapping[str, float]
    machine: str


def read_curves(metrics: Path) -> dict[str, tuple[list[float], list[float]]]:
    """The curves worth showing of a run's ``metrics.jsonl``: rewards, KL, entropy, length and time per step."""
    steps = [json.loads(line) for line in metrics.read_text().splitlines()]
    names = {key: f"reward: {key.split('/')[1]}" for step in steps for key in step if REWARD_MEAN.fullmatch(key)}
    names["reward/box_iou/mean"] = "mean box IoU of the samples"
    names |= {
        "actor/kl_loss": "KL to the start",
        "actor/entropy": "entropy",
        "response_length/mean": "response length, tokens",
        "timing_s/step": "seconds per step",
    }
    curves = {}
    for key, name in names.items():
        points = [(float(step["step"]), float(step[key])) for step in steps if key in step]
        if points:
            curves[name] = ([x for x, _ in points], [y for _, y in points])
    return curves


def draw_curves(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], columns: int = 3) -> Image.Image:
    """Small multiples, one panel per curve: the value of every step and its running mean over 5 steps."""
    plt = pyplot()
    count = max(len(curves), 1)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 2.5 * rows), squeeze=False, dpi=110)
    for axis in axes.flat[len(curves) :]:
        axis.axis("off")
    for axis, (name, (steps, values)) in zip(axes.flat, curves.items(), strict=False):
        axis.plot(steps, values, color="#9db7e8", linewidth=1, marker="o", markersize=2)
        if len(values) >= 5:
            mean = np.convolve(values, np.ones(5) / 5, mode="valid")
            axis.plot(steps[4:], mean, color="#1d4ed8", linewidth=2)
        axis.set_title(name, fontsize=11, loc="left")
        axis.grid(color="#eef0f3")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("training step", fontsize=9)
    figure.tight_layout()
    return rendered(figure)


def _drawn(row: Row, prediction: Prediction, spec: PromptSpec) -> Image.Image:
    """The row's image with what the policy wrote and the mask it led to."""
    image = row.image()
    objects = read_objects(prediction.text, spec, image.size)[1]
    masks = np.zeros((0, image.height, image.width), dtype=bool)
    if prediction.mask is not None:
        masks = decode_mask(prediction.mask)[None]
    return overlay(image, masks, objects, min_side=300)


def draw_before_after(page: Page, kinds: Sequence[str] = tuple(KIND_NAMES)) -> Image.Image:
    """The held-out question with the median gain of each kind, before (upper row) and after (lower row) training."""
    plt = pyplot()
    gains = [a.iou - b.iou for b, a in zip(page.before_predictions, page.after_predictions, strict=True)]
    chosen = []
    for kind in kinds:
        of_kind = sorted((i for i, row in enumerate(page.rows) if row.kind == kind), key=gains.__getitem__)
        chosen.append(of_kind[len(of_kind) // 2])
    figure, axes = plt.subplots(
        2, len(chosen), figsize=(2.9 * len(chosen), 7.2), dpi=100, squeeze=False, layout="constrained"
    )
    for column, index in enumerate(chosen):
        row = page.rows[index]
        for axis, name, predictions in (
            (axes[0][column], "before", page.before_predictions),
            (axes[1][column], "after", page.after_predictions),
        ):
            prediction = predictions[index]
            axis.imshow(_drawn(row, prediction, page.spec))
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            title = textwrap.fill(f"“{row.problem}”", 30) + "\n" if name == "before" else ""
            axis.set_title(f"{title}{name}: IoU {prediction.iou:.2f}", fontsize=11)
            thought = parse_answer(prediction.text).thinking
            axis.set_xlabel(textwrap.fill(thought, 32), fontsize=10, color="#475467", style="italic")
    return rendered(figure)


def _change(before: float, after: float) -> str:
    difference = after - before
    return f'<td class="{"up" if difference >= 0 else "down"}">{difference:+.3f}</td>'


def _numbers(page: Page) -> str:
    rows = []
    for name, interval in page.before.metrics.items():
        before, after = interval.value, page.after.metrics[name].value
        rows.append(f"<tr><td>{name}</td><td>{before:.3f}</td><td>{after:.3f}</td>{_change(before, after)}</tr>")
    for kind, values in page.before.kinds.items():
        before, after = values["gIoU"], page.after.kinds[kind]["gIoU"]
        name = f"gIoU, {KIND_NAMES.get(kind, kind)}"
        rows.append(f"<tr><td>{name}</td><td>{before:.3f}</td><td>{after:.3f}</td>{_change(before, after)}</tr>")
    head = "<tr><th>held-out scenes</th><th>before</th><th>after</th><th>change</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _panel(title: str, row: Row, prediction: Prediction | None, spec: PromptSpec) -> str:
    image = row.image()
    if prediction is None:
        truth = row.truth()
        masks = np.zeros((0, image.height, image.width), dtype=bool) if truth is None else truth[None]
        picture, words = overlay(image, masks, row.objects(), min_side=300), ""
        caption = f"<b>{title}</b>"
    else:
        answer = parse_answer(prediction.text)
        picture = _drawn(row, prediction, spec)
        caption = f"<b>{title}</b>: IoU {prediction.iou:.2f}"
        words = html.escape(answer.thinking or prediction.text[:160])
        if not answer.objects:
            caption += " <small>(no object named)</small>"
    return f'<div><img alt="{title}" src="{embedded(picture)}"><p>{caption}<br><small>{words}</small></p></div>'


def _gallery(page: Page, per_kind: int = 2) -> str:
    shown: dict[str, int] = {}
    cases = []
    for row, before, after in zip(page.rows, page.before_predictions, page.after_predictions, strict=True):
        if shown.get(row.kind, 0) >= per_kind:
            continue
        shown[row.kind] = shown.get(row.kind, 0) + 1
        kind = KIND_NAMES.get(row.kind, row.kind)
        panels = (
            _panel("before", row, before, page.spec)
            + _panel("after", row, after, page.spec)
            + _panel("truth", row, None, page.spec)
        )
        cases.append(
            f'<div class="case"><h3>“{html.escape(row.problem)}” <em>{kind}</em></h3>'
            f'<div class="panels">{panels}</div></div>'
        )
    return "".join(cases)


def write_page(path: Path, page: Page) -> None:
    """Write the page as one file, pictures included."""
    gain = paired_difference([p.iou for p in page.before_predictions], [p.iou for p in page.after_predictions])
    steps = max((len(values) for _, values in page.curves.values()), default=0)
    total = sum(page.seconds.values())
    tiles = (
        ("mean IoU (gIoU) before", f"{page.before.metrics['gIoU'].value:.3f}"),
        ("mean IoU (gIoU) after", f"{page.after.metrics['gIoU'].value:.3f}"),
        (f"gain, 95 % interval {gain.low:+.3f} to {gain.high:+.3f}", f"{gain.mean:+.3f}"),
        (f"{steps} GRPO steps, whole demo", f"{total / 60:.1f} min"),
    )
    tile_row = "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for name, value in tiles)
    body = f"""<h1>Seg-Zero demo</h1>
<p class="lead">A tiny Qwen2.5-VL policy names boxes and points, a tiny SAM2 turns them into masks, and GRPO
trains the policy on rewards alone. Scenes and questions below were never trained on.</p>
<div class="tiles">{tile_row}</div>
<h2>Before and after training</h2>{_numbers(page)}
<p class="note">{page.after.rows} held-out questions, greedy decoding. Answers that could not be read:
{page.before.unparsable} before, {page.after.unparsable} after; they count 0.
The interval is a paired bootstrap over the questions of this one run; it says nothing about other training seeds.</p>
<h2>Rewards while training</h2>
<p class="note">Mean over the samples of each step (thin), and over the last 5 steps (thick).</p>
<div class="curves"><img alt="curves of the reward terms" src="{embedded(draw_curves(page.curves))}"></div>
<h2>Gallery</h2><p class="note">The first two held-out questions of every kind, not picked by result.
Dashes: the box that the policy wrote; disc: its point; outline: the mask.</p>
{_gallery(page)}
<h2>Where the time went</h2><table><tr><th>stage</th><th>seconds</th></tr>
{"".join(f"<tr><td>{name}</td><td>{value:.0f}</td></tr>" for name, value in page.seconds.items())}</table>
<p class="note">{html.escape(page.machine)}</p>"""
    write_text(path, document("Seg-Zero demo", body))
