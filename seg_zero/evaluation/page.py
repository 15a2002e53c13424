"""The report of an evaluation as one self-contained HTML page: numbers, histogram, outcomes by kind, and cases."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from seg_zero.answer import parse_answer
from seg_zero.data.contact_sheet import draw_row, picture_size
from seg_zero.data.rows import Row
from seg_zero.errors import InputError
from seg_zero.evaluation.predictions import Prediction
from seg_zero.evaluation.summary import OUTCOMES, Summary
from seg_zero.files import write_text
from seg_zero.prompting import PromptSpec
from seg_zero.visualize import draw_answer
from seg_zero.visualize.html_page import document, embedded, pyplot, rendered

CASES = 6  # of the worst, of those in the middle, and of the best
SIDE = 320  # of a picture's longer side, in pixels


def write_page(
    path: Path, summary: Summary, predictions: Sequence[Prediction], rows: Sequence[Row], speed: str
) -> None:
    """Write the page about all rows; ``speed`` is a line about this run."""
    spec = PromptSpec(**summary.settings["prompt"])
    sections = []
    for title, numbers in _chosen(predictions).items():
        cases = "".join(_case(rows, predictions[number], spec) for number in numbers)
        sections.append(f"<h2>{title}</h2>{cases}")
    settings = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in summary.settings.items()
    )
    tiles = [(name, i.value, f"{i.low:.3f} to {i.high:.3f}") for name, i in list(summary.metrics.items())[:4]]
    body = f"""<h1>Evaluation</h1>
<p class="lead">{html.escape(_short(summary.settings["policy"]))} on {html.escape(_short(summary.settings["data"]))},
{summary.rows} rows</p>
<div class="tiles">{"".join(_tile(*tile) for tile in tiles)}</div>
<p class="note">Below each number its 95 % bootstrap interval over the rows. Rule <code>{summary.rule}</code>: see
docs/metrics.md. {html.escape(summary.counts_line())}. Every row of the dataset is in the mean; unparsable and failed
ones count 0. This run: {html.escape(speed)}.</p>
<h2>All metrics</h2>{_numbers(summary)}
<h2>IoU of all rows</h2><div class="curves"><img alt="histogram of IoU" src="{embedded(_histogram(predictions))}"></div>
<h2>What became of each kind of question</h2><div class="wide">{_outcomes(summary)}</div>
<p class="note">IoU columns: rows with a target for which something was found. Missed: a target, but no pixel. False
alarm: pixels where nothing was to be found. Unusable: the answer could not be read, or the row not be segmented.</p>
{"".join(sections)}
<h2>Settings</h2><table class="words">{settings}</table>"""
    write_text(path, document("Seg-Zero evaluation", body))


def _short(name: str) -> str:
    """A hub id as it is, of a path the last two parts."""
    return "/".join(Path(name).parts[-2:])


def _tile(name: str, value: float, interval: str) -> str:
    return f'<div class="tile"><b>{value:.3f}</b><span>{name}<br>{interval}</span></div>'


def _numbers(summary: Summary) -> str:
    rows = "".join(
        f"<tr><td>{name}</td><td>{i.value:.4f}</td><td>{i.low:.4f} to {i.high:.4f}</td></tr>"
        for name, i in summary.metrics.items()
    )
    return f"<table><tr><th>metric</th><th>value</th><th>95 % interval</th></tr>{rows}</table>"


def _outcomes(summary: Summary) -> str:
    shown = [name for name in OUTCOMES if any(values["outcomes"].get(name) for values in summary.kinds.values())]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("kind", "rows", "gIoU", *shown))
    lines = []
    for kind, values in summary.kinds.items():
        cells = [f"<td>{html.escape(kind) or '(none)'}</td><td>{values['rows']}</td><td>{values['gIoU']:.3f}</td>"]
        for name in shown:
            fraction = values["outcomes"].get(name, 0) / values["rows"]
            cells.append(
                f'<td style="background: rgb(29 78 216 / {fraction * 0.35:.2f})">{values["outcomes"].get(name, 0)}</td>'
            )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _histogram(predictions: Sequence[Prediction]) -> Image.Image:
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(9, 2.6), dpi=110)
    axis.hist([p.iou for p in predictions], bins=np.linspace(0, 1, 21), color="#1d4ed8", rwidth=0.92)
    axis.set_xlabel("IoU")
    axis.set_ylabel("rows")
    axis.set_xlim(0, 1)
    axis.grid(axis="y", color="#eef0f3")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return rendered(figure)


def _chosen(predictions: Sequence[Prediction]) -> dict[str, list[int]]:
    """Places of the rows to show; none twice."""
    order = sorted(range(len(predictions)), key=lambda place: (predictions[place].iou, place))
    middle = len(order) // 2
    chosen: dict[str, list[int]] = {}
    seen: set[int] = set()
    for title, places in (
        ("Worst", order[:CASES]),
        ("In the middle", order[max(0, middle - CASES // 2) : middle + CASES // 2]),
        ("Best", order[: -CASES - 1 : -1]),
    ):
        chosen[title] = [place for place in places if place not in seen]
        seen.update(places)
    return {title: places for title, places in chosen.items() if places}


def _case(rows: Sequence[Row], prediction: Prediction, spec: PromptSpec) -> str:
    kind = f" <em>{html.escape(prediction.kind)}</em>" if prediction.kind else ""
    heading = f"<h3>“{html.escape(prediction.question)}”{kind} <em>{html.escape(prediction.id)}</em></h3>"
    answer = parse_answer(prediction.text)
    problem = prediction.failure or prediction.problem
    words = html.escape(answer.thinking or prediction.text[:400]) or "<i>no reasoning</i>"
    verdict = f"<b>IoU {prediction.iou:.3f}</b>, box IoU {prediction.box_iou:.3f}"
    if len(prediction.texts) > 1:
        verdict += f", {len(prediction.texts)} answers fused"
    if problem:
        verdict += f'<br><span class="down">{html.escape(problem)}</span>'
    try:
        row = rows[prediction.row]
        image = row.image()
        size = picture_size(row, image, SIDE)
        answered = draw_answer(image, size, answer, prediction.mask, spec)
        plain = image.resize(size, Image.Resampling.LANCZOS)
        pictures = (("image", plain), ("answer", answered), ("truth", draw_row(row, SIDE)))
    except (InputError, ValueError) as error:
        panels = f'<div><p class="down">cannot be drawn: {html.escape(str(error))}</p></div>'
    else:
        texts = {"image": words, "answer": verdict, "truth": ""}
        panels = "".join(
            f'<div><img alt="{name}" src="{embedded(drawn)}"><p><small>{name}</small> {texts[name]}</p></div>'
            for name, drawn in pictures
        )
    return f'<div class="case">{heading}<div class="panels">{panels}</div></div>'
