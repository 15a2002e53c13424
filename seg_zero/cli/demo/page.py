"""The demo's HTML page: what happened in two sentences, pictures, numbers, failures, curves, and what to do next."""

from __future__ import annotations

import html
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from seg_zero.answer import parse_answer
from seg_zero.cli.demo.curves import Curve, curves_section
from seg_zero.cli.demo.hops import Chained, chains_section
from seg_zero.data.contact_sheet import draw_row, picture_size
from seg_zero.data.rows import Row
from seg_zero.errors import counted
from seg_zero.evaluation.predictions import Prediction
from seg_zero.evaluation.summary import OUTCOMES, Summary, outcome
from seg_zero.evaluation.wording import (
    IOU,
    LINES,
    METRICS,
    OUTCOME_MEANINGS,
    by_kind,
    explain,
    kind_name,
    percent,
    shortened,
    true_objects,
)
from seg_zero.files import write_text
from seg_zero.prompting import PromptSpec
from seg_zero.statistics import PairedDifference, paired_difference
from seg_zero.visualize import draw_answer
from seg_zero.visualize.html_page import document, panel, pyplot, rendered, tile

SIDE = 448  # of a picture, in pixels: four times that of a scene
GOOD_IOU = 0.5
CLEAR_CHANGE = 0.1  # of an IoU


@dataclass(frozen=True)
class Spoken:
    """A round of the conversation: the question, what the policy thought, and the picture with its answer."""

    question: str
    thinking: str
    picture: Image.Image


@dataclass(frozen=True)
class Page:
    """What the page shows; ``curves`` by the key of a metric; ``merged``: the trained model as a user types it;
    ``spoken``: the rounds of a conversation with it; ``chained``: answers to questions that take several steps,
    if that was trained."""

    before: Summary
    after: Summary
    before_predictions: Sequence[Prediction]
    after_predictions: Sequence[Prediction]
    rows: Sequence[Row]
    curves: Mapping[str, Curve]
    spec: PromptSpec
    seconds: Mapping[str, float]
    machine: str
    merged: str
    spoken: Sequence[Spoken]
    chained: Chained | None

    @property
    def gains(self) -> list[float]:
        """The change of each row's IoU."""
        return [a.iou - b.iou for b, a in zip(self.before_predictions, self.after_predictions, strict=True)]

    @cached_property
    def mean_gain(self) -> PairedDifference:
        return paired_difference([p.iou for p in self.before_predictions], [p.iou for p in self.after_predictions])

    @property
    def steps(self) -> int:
        return max((len(values) for _, values in self.curves.values()), default=0)

    def typical(self) -> list[int]:
        """The row with the median gain of each kind of question, the largest first, but those without a target last."""
        gains = self.gains
        kinds: dict[str, list[int]] = {}
        for place in sorted(range(len(gains)), key=lambda place: (gains[place], place)):
            kinds.setdefault(self.rows[place].kind, []).append(place)
        chosen = [places[len(places) // 2] for places in kinds.values()]
        return sorted(chosen, key=lambda place: (self.after_predictions[place].no_target, -gains[place], place))


def next_commands(merged: str) -> list[tuple[str, str]]:
    """What to do after the demo, and the command for it."""
    real = "--model Ricky06662/VisionReasoner-7B --segmenter facebook/sam2-hiera-large"
    return [
        ("Ask the trained policy about scenes, in a browser", f"seg-zero web --model {merged}"),
        ("Ask it one question about the example scene", f"seg-zero infer --model {merged} --text 'all red shapes'"),
        ("Hold a conversation about it", f"seg-zero chat --model {merged}"),
        ("Ask a real model about a photo; it needs a GPU with 24 GB", f"seg-zero infer {real} photo.jpg 'all cups'"),
        ("Segment a synthetic room in 3D; two minutes", "seg-zero scan --demo"),
        (
            "Train on your own pictures: docs/bring_your_own_data.md",
            "seg-zero data folder --questions my_data/questions.csv --split train --out my_data/train.parquet",
        ),
    ]


def draw_before_after(page: Page) -> Image.Image:
    """The typical question of each kind, before (upper row) and after (lower row) training."""
    plt = pyplot()
    chosen = page.typical()
    figure, axes = plt.subplots(
        2, len(chosen), figsize=(3.1 * len(chosen), 9), dpi=80, squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(hspace=0.04)
    for column, index in enumerate(chosen):
        row = page.rows[index]
        for axis, name, predictions in (
            (axes[0][column], "before", page.before_predictions),
            (axes[1][column], "after", page.after_predictions),
        ):
            prediction = predictions[index]
            axis.imshow(_drawn(row, prediction, page.spec, 3 * SIDE // 4))  # thicker lines
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            title = textwrap.fill(f"“{row.problem}”", 22) + "\n" if name == "before" else ""
            axis.set_title(f"{title}{name}: IoU {prediction.iou:.2f}", fontsize=17)
            thought = parse_answer(prediction.text).thinking
            axis.set_xlabel(textwrap.fill(thought, 24), fontsize=15, color="#475467", style="italic")
    return rendered(figure)


def _drawn(row: Row, prediction: Prediction, spec: PromptSpec, side: int = SIDE) -> Image.Image:
    """The row's image with what the policy wrote and the mask it led to."""
    image = row.image()
    size = picture_size(row, image, side)
    return draw_answer(image, size, parse_answer(prediction.text), prediction.mask, spec)


def _figure(name: str, drawn: Image.Image, question: str, caption: str) -> str:
    return panel(drawn, f"{name}: {question}", f"<b>{name}</b>{caption}")


def _answer(name: str, row: Row, prediction: Prediction, spec: PromptSpec) -> str:
    words = shortened(prediction.text if prediction.problem else parse_answer(prediction.text).thinking)
    said = f"<br><i>“{html.escape(words)}”</i>" if words else ""
    return _figure(name, _drawn(row, prediction, spec), row.problem, f": IoU {prediction.iou:.2f}{said}")


def _case(page: Page, index: int, note: str) -> str:
    """One question: the answers, the truth, and why the last answer scored what it did."""
    row, after = page.rows[index], page.after_predictions[index]
    panels = (
        _answer("before", row, page.before_predictions[index], page.spec)
        + _answer("after", row, after, page.spec)
        + _figure("truth", draw_row(row, SIDE), row.problem, "")
    )
    why = explain(after, true_objects(row))
    verdict = f'<p class="verdict">After training, {html.escape(why[0].lower() + why[1:])}</p>'
    return (
        f'<div class="case"><h3>“{html.escape(row.problem)}” <small>{html.escape(note)}</small></h3>'
        f'<div class="panels three">{panels}{verdict}</div></div>'
    )


def _failures(page: Page) -> str:
    """One example of each way in which answers after training are wrong, with how often it happens."""
    wrong = [i for i, prediction in enumerate(page.after_predictions) if prediction.iou < GOOD_IOU]
    ways = [outcome(page.after_predictions[i]) for i in wrong]
    often = Counter(ways)
    cases = []
    for way in sorted(often, key=lambda way: (-often[way], OUTCOMES.index(way))):
        meaning = OUTCOME_MEANINGS[way].partition(";")[0]
        cases.append(_case(page, wrong[ways.index(way)], f"{counted(often[way], 'answer')}: {meaning}"))
    worse = sum(gain < -CLEAR_CHANGE for gain in page.gains)
    better = sum(gain > CLEAR_CHANGE for gain in page.gains)
    have = "has" if len(wrong) == 1 else "have"
    head = (
        f"After training, {len(wrong)} of {counted(len(page.rows), 'answer')} still {have} an IoU below {GOOD_IOU}. "
        f"Training made {counted(better, 'answer')} clearly better and {worse} clearly worse (by more than "
        f"{CLEAR_CHANGE} of IoU)."
    )
    more = " Below is the first example of each kind of mistake, the frequent ones first." if cases else ""
    return f"<p>{head}{more}</p>{''.join(cases)}"


def _conversation(rounds: Sequence[Spoken]) -> str:
    panels = "".join(
        panel(
            one.picture,
            one.question,
            f"<b>{number}. “{html.escape(one.question)}”</b>"
            + (f"<br><i>“{html.escape(shortened(one.thinking))}”</i>" if one.thinking else ""),
        )
        for number, one in enumerate(rounds, start=1)
    )
    return f'<div class="case"><div class="panels three">{panels}</div></div>'


def _change(before: float, after: float) -> str:
    difference = after - before
    if f"{difference:.3f}".lstrip("-") == "0.000":
        return "<td>0.000</td>"
    return f'<td class="{"up" if difference > 0 else "down"}">{difference:+.3f}</td>'


def _table(head: str, rows: Sequence[tuple[str, str, float, float]]) -> str:
    """Rows of (name, meaning, before, after)."""
    lines = "".join(
        f"<tr><td>{html.escape(name)}{f'<small>{html.escape(meaning)}</small>' if meaning else ''}</td>"
        f"<td>{before:.3f}</td><td>{after:.3f}</td>{_change(before, after)}</tr>"
        for name, meaning, before, after in rows
    )
    return f"<table><tr><th>{head}</th><th>before</th><th>after</th><th>change</th></tr>{lines}</table>"


def _numbers(page: Page) -> str:
    before, after = page.before, page.after
    kinds = [
        (kind_name(kind), "", before.kinds[kind]["gIoU"], after.kinds[kind]["gIoU"]) for kind in by_kind(before.kinds)
    ]
    metrics = [
        (name, METRICS.get(name, ""), interval.value, after.metrics[name].value)
        for name, interval in before.metrics.items()
    ]
    tiles = (
        ("mean IoU before", f"{before.metrics['gIoU'].value:.2f}", f"{IOU}. 1 is perfect, 0 a miss."),
        (
            "mean IoU after",
            f"{after.metrics['gIoU'].value:.2f}",
            "Of the same questions; none was trained on.",
        ),
        ("gain", *_gain(page)),
    )
    return (
        '<div class="tiles">'
        + "".join(tile(name, value, meaning) for name, value, meaning in tiles)
        + f"</div><h3>Mean IoU by kind of question</h3>{_table('question', kinds)}"
        f"<details><summary>More metrics</summary>{_table('metric', metrics)}</details>"
    )


def _gain(page: Page) -> tuple[str, str]:
    gain = page.mean_gain
    return (
        f"{gain.mean:+.2f}",
        f"With other questions of this sort it would probably lie between {gain.low:+.2f} and {gain.high:+.2f} "
        f"({percent(0.95)} interval); other training runs may differ more.",
    )


def _story(page: Page) -> str:
    before, after = (summary.metrics["gIoU"].value for summary in (page.before, page.after))
    question = html.escape(page.rows[page.typical()[0]].problem)
    return (
        f"A tiny model answers questions such as “{question}” by writing boxes and points, which a second model, SAM2, "
        f"turns into masks. After {counted(page.steps, 'step')} of trial and error, the overlap of its masks with the "
        f"right ones went from {before:.2f} to {after:.2f} (1 is perfect) on {counted(page.after.rows, 'question')} "
        "that it had never seen."
    )


def _unbroken(command: str) -> str:
    """A command as HTML that wraps between words, but not within an option."""
    words = (html.escape(word) for word in command.split(" "))
    return " ".join(f"<span>{word}</span>" if word.startswith("-") else word for word in words)


def write_page(path: Path, page: Page) -> None:
    """Write the page as one file, pictures included."""
    typical = "".join(_case(page, index, kind_name(page.rows[index].kind)) for index in page.typical())
    total = sum(page.seconds.values())
    stages = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{value:.0f}</td></tr>" for name, value in page.seconds.items()
    )
    commands = "".join(
        f"<p>{html.escape(what)}:</p><pre>{_unbroken(command)}</pre>" for what, command in next_commands(page.merged)
    )
    body = f"""<h1>Seg-Zero demo</h1>
<p class="lead">{_story(page)}</p>
<h2>Before and after training</h2>
<p class="note">Typical questions: for each kind the one with the median gain, so half of its kind gained more and half
less; the largest gains first. {LINES} In italics: what the model wrote before its answer.</p>
{typical}
<h2>The numbers</h2>{_numbers(page)}
<h2>What still goes wrong</h2>{_failures(page)}
<h2>A conversation</h2>
<p class="note">After training. <i>Instance 1</i> is what the first question found: earlier answers are part of the next
prompt. The training was on single questions alone, so later answers are often wrong.</p>
{_conversation(page.spoken)}
<h2>How it learned</h2>
<p>In each step the policy, as the model that answers is called, tries several answers to each of some questions. Rules
score them, and GRPO, the method, makes answers that beat their neighbours more likely. Thin: each step; thick: the mean
of five.</p>
{curves_section(page.curves)}
{chains_section(page.chained) if page.chained else ""}
<details><summary>Where the {total / 60:.1f} minutes went</summary>
<table><tr><th>stage</th><th>seconds</th></tr>{stages}</table><p class="note">{html.escape(page.machine)}</p></details>
<h2>What to do next</h2>
<p>The trained model is in <code>{html.escape(page.merged)}</code>. It knows only synthetic shapes: its answers about
photos mean nothing. docs/README.md says which model photos need.</p>
{commands}"""
    write_text(path, document("Seg-Zero demo", body))
