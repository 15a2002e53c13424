"""The report of an evaluation as one self-contained HTML page: numbers, outcomes by kind of question, and cases."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.answer import parse_answer
from seg_zero.data.contact_sheet import draw_row, picture_size
from seg_zero.data.rows import Row
from seg_zero.errors import InputError, counted
from seg_zero.evaluation.predictions import Prediction
from seg_zero.evaluation.summary import OUTCOMES, Summary
from seg_zero.evaluation.wording import (
    LINES,
    METRICS,
    OUTCOME_COLOURS,
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
from seg_zero.visualize import draw_answer
from seg_zero.visualize.html_page import document, histogram, legend, panel, parts_bar, tile, warning_box

SIDE = 560  # of a picture's longer side, in pixels: two of them fill the page
BINS = 20
_TYPICAL, _WORST, _BEST = 6, 6, 4  # how many cases of each
_LONGEST = 1000  # characters of a text: reasoning is read here
_MOST_ENLARGED = 4  # times: a tiny picture need not fill the page


def write_page(
    path: Path, summary: Summary, predictions: Sequence[Prediction], rows: Sequence[Row], speed: str
) -> None:
    """Write the page about all rows; ``speed`` is a line about this run."""
    spec = PromptSpec(**summary.settings["prompt"])
    sections = []
    for title, (meaning, places) in _chosen(predictions).items():
        cases = "".join(_case(rows, predictions[place], spec) for place in places)
        sections.append(f'<h2>{title}</h2><p class="note">{meaning}</p>{cases}')
    tiles = "".join(_tile(name, summary) for name in list(summary.metrics)[:3])
    body = f"""<h1>Evaluation</h1>
<p class="lead"><b>{html.escape(_short(summary.settings["policy"]))}</b> on
<b>{html.escape(_short(summary.settings["data"]))}</b>, {counted(summary.rows, "row")}: each a question about a picture,
with the right mask.</p>
{warning_box(summary.warning)}
<div class="tiles">{tiles}</div>
<p class="note">{_about_intervals(summary.rows)} {_about_rule(summary.rule)} {html.escape(summary.counts_line())}.
This run: {html.escape(speed)}.</p>
<h2>What became of the questions</h2>{_outcomes(summary)}
{_histogram(predictions)}
{"".join(sections)}
<h2>All metrics</h2>{_numbers(summary)}
<p class="note">Scored by rule <code>{html.escape(summary.rule)}</code>; docs/metrics.md describes the rules.</p>
<details><summary>Settings</summary><div class="wide"><table class="words">{_settings(summary.settings)}</table></div>
</details>"""
    write_text(path, document(f"Evaluation of {html.escape(_short(summary.settings['policy']))}", body))


def _short(name: str) -> str:
    """A hub id as it is, of a path the last two parts."""
    return "/".join(Path(name).parts[-2:])


def _about_intervals(rows: int) -> str:
    if rows < 2:
        return "A single row has no interval."
    return (
        f"Below each number stands its {percent(0.95)} interval: where it would probably lie if other rows of this "
        "sort had been drawn."
    )


def _about_rule(rule: str) -> str:
    if rule == "seg_zero":
        return "Failed rows are not in the mean; unparsable answers count 0."
    return "Every row is in the mean; unparsable and failed ones count 0."


def _tile(name: str, summary: Summary) -> str:
    found = summary.metrics[name]
    interval = f"{found.low:.3f} to {found.high:.3f}" if summary.rows > 1 else ""
    return tile(name, f"{found.value:.3f}", METRICS.get(name, ""), interval)


def _numbers(summary: Summary) -> str:
    intervals = summary.rows > 1
    rows = "".join(
        f"<tr><td>{name}<small>{html.escape(METRICS.get(name, ''))}</small></td><td>{i.value:.4f}</td>"
        f"{f'<td>{i.low:.4f} to {i.high:.4f}</td>' if intervals else ''}</tr>"
        for name, i in summary.metrics.items()
    )
    last = f"<th>{percent(0.95)} interval</th>" if intervals else ""
    return f"<table><tr><th>metric</th><th>value</th>{last}</tr>{rows}</table>"


def _histogram(predictions: Sequence[Prediction]) -> str:
    if len(predictions) < 2:
        return ""
    counts = np.histogram([p.iou for p in predictions], bins=np.linspace(0, 1, BINS + 1))[0].tolist()
    return (
        '<h2>IoU of all rows</h2><p class="note">How many rows have an IoU in each twentieth of the scale; 0 is a '
        f"miss, 1 a perfect mask.</p>{histogram(counts, 0, 1, 'rows by IoU')}"
    )


def _outcomes(summary: Summary) -> str:
    """A bar for each kind of question, its parts the outcomes."""
    shown = [name for name in OUTCOMES if any(values["outcomes"].get(name) for values in summary.kinds.values())]
    bars = "".join(
        parts_bar(
            kind_name(kind) if len(summary.kinds) > 1 or kind else "all questions",
            f"{counted(values['rows'], 'row')}, gIoU {values['gIoU']:.3f}",
            [(name, values["outcomes"].get(name, 0), OUTCOME_COLOURS[name]) for name in shown],
        )
        for kind, values in ((kind, summary.kinds[kind]) for kind in by_kind(summary.kinds))
    )
    return legend([(name, OUTCOME_MEANINGS[name], OUTCOME_COLOURS[name]) for name in shown]) + bars


def _settings(settings: Mapping[str, Any], prefix: str = "") -> str:
    lines = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            lines.append(_settings(value, f"{name}, "))
        elif value is not None:
            words = html.escape(f"{prefix}{name}".replace("_", " "))
            lines.append(f"<tr><td>{words}</td><td>{html.escape(str(value))}</td></tr>")
    return "".join(lines)


def _chosen(predictions: Sequence[Prediction]) -> dict[str, tuple[str, list[int]]]:
    """Headings, what they mean, and the places of the rows to show; none twice."""
    order = sorted(range(len(predictions)), key=lambda place: (predictions[place].iou, place))
    if len(order) <= _TYPICAL:
        return {"All rows" if len(order) > 1 else "The row": (LINES, order)}
    kinds: dict[str, list[int]] = {}
    for place in order:
        kinds.setdefault(predictions[place].kind, []).append(place)
    if len(kinds) > 1:
        # Of many kinds those with the most rows.
        largest = sorted(kinds, key=lambda kind: (-len(kinds[kind]), kind))[:_TYPICAL]
        typical = [kinds[kind][len(kinds[kind]) // 2] for kind in by_kind(largest)]
        meaning = "For each kind of question the row with the median IoU: half of its kind did better, half worse."
    else:
        first = max(0, len(order) // 2 - _TYPICAL // 2)
        typical = order[first : first + _TYPICAL]
        meaning = "The rows around the median IoU: half of all did better, half worse."
    chosen: dict[str, tuple[str, list[int]]] = {}
    seen: set[int] = set()
    for title, says, places in (
        ("Typical", f"{meaning} {LINES}", typical),
        ("Worst", "The rows with the lowest IoU.", order[:_WORST]),
        ("Best", "The rows with the highest IoU.", order[: -_BEST - 1 : -1]),
    ):
        new = [place for place in places if place not in seen]
        seen.update(new)
        if new:
            chosen[title] = says, new
    return chosen


def _case(rows: Sequence[Row], prediction: Prediction, spec: PromptSpec) -> str:
    kind = f"{kind_name(prediction.kind)}, " if prediction.kind else ""
    question = html.escape(prediction.question)
    heading = f"<h3>“{question}” <small>{html.escape(kind)}{html.escape(prediction.id)}</small></h3>"
    answer = parse_answer(prediction.text)
    said = prediction.text if prediction.problem else answer.thinking or prediction.text
    words = html.escape(shortened(said, _LONGEST))
    wanted = None
    try:
        row = rows[prediction.row]
        wanted = true_objects(row)
        image = row.image()
        size = picture_size(row, image, side := min(SIDE, _MOST_ENLARGED * max(image.size)))
        pictures: list[tuple[str, Image.Image]] = [
            ("answer", draw_answer(image, size, answer, prediction.mask, spec)),
            ("truth", draw_row(row, side)),
        ]
    except (InputError, ValueError) as error:
        panels = f'<p class="down">cannot be drawn: {html.escape(str(error))}</p>'
    else:
        texts = {"answer": f"answer: <i>“{words}”</i>" if words else "answer: <i>no words</i>", "truth": "truth"}
        panels = "".join(panel(drawn, f"{name}: {prediction.question}", texts[name]) for name, drawn in pictures)
    several = f", fused from {counted(len(prediction.texts), 'answer')}" if len(prediction.texts) > 1 else ""
    verdict = (
        f'<p class="verdict"><b>IoU {prediction.iou:.2f}</b>, boxes {prediction.box_iou:.2f}{several}. '
        f"{html.escape(explain(prediction, wanted))}</p>"
    )
    return f'<div class="case">{heading}<div class="panels">{panels}</div>{verdict}</div>'
