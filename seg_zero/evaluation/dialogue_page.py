"""The report of an evaluation of dialogues: tables, how errors grow by round, and whole conversations, worst first."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from PIL import Image

from seg_zero.dialogue.data.records import DialogueRecord
from seg_zero.errors import InputError
from seg_zero.evaluation.dialogues import HISTORIES, NATIVE, PREDICTED, TRUE, PlayedDialogue, PlayedRound, Results
from seg_zero.masks import decode_mask, resize_mask
from seg_zero.visualize import overlay
from seg_zero.visualize.html_page import document, embedded, pyplot, rendered

CONVERSATIONS = 20  # shown, of the worst
SIDE = 240  # of a picture's longer side, in pixels
GAP = 6  # pixels between an answer and its truth
METRICS = ("cIoU", "mIoU", "P@0.5")
TITLES = {"native": "At the pictures' own size", "segllm_1024": "In SegLLM's frame of 1024 pixels"}
_STRIP = """<style>
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 12px; }
.strip img { width: 100%; border-radius: 6px; display: block; } .strip p { margin: 4px 0 0; font-size: 13px; }
</style>"""


def table(results: Results, counting: str = NATIVE) -> list[list[str]]:
    """Rows of text: a header, each round, all; the columns of true history first, then those of predicted."""
    head = ["round", "count", *(f"{metric}, {history}" for history in HISTORIES for metric in METRICS)]
    rows = [head]
    for number, values in results[TRUE][counting].items():
        cells = [f"{results[history][counting][number][metric]:.4f}" for history in HISTORIES for metric in METRICS]
        rows.append([number, f"{values['count']:.0f}", *cells])
    return rows


def markdown(name: str, results: Results, notes: Sequence[str] = ()) -> str:
    lines = [
        "# Evaluation of dialogues",
        "",
        f"`{name}`; true and predicted: the history that references resolve to.",
        "",
    ]
    for counting, title in TITLES.items():
        head, *rows = table(results, counting)
        lines += [f"## {title}", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines.append("")
    return "\n".join([*lines, *notes]) + "\n"


def printed(results: Results) -> str:
    """The table at the pictures' own size, in columns."""
    rows = table(results)
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def page(
    name: str, results: Results, played: Sequence[PlayedDialogue], dialogues: Sequence[DialogueRecord], speed: str
) -> str:
    """The report as one HTML page. Conversations are sorted by their mean IoU with predicted history."""
    order = sorted(played, key=lambda item: (item.mean_iou(PREDICTED), item.number))[:CONVERSATIONS]
    cases = "".join(_case(item, dialogues[item.number]) for item in order)
    tables = "".join(
        f"<h2>{title}</h2><div class='wide'>{_html(table(results, c))}</div>" for c, title in TITLES.items()
    )
    body = f"""{_STRIP}<h1>Evaluation of dialogues</h1>
<p class="lead">{html.escape(name)}: {len(played)} dialogues, {results[TRUE][NATIVE]["all"]["count"]:.0f} rounds</p>
<p class="note">With true history, references resolve to true masks; with predicted history, to the answers of earlier
rounds. Every round is in the means; one without an answer counts 0. {html.escape(speed)}.</p>
<h2>By round</h2><div class="curves"><img alt="mIoU by round" src="{embedded(_curve(results))}"></div>
{tables}<h2>Conversations, worst first</h2>
<p class="note">Left the answer with predicted history, right the truth.</p>{cases}"""
    return document("Seg-Zero dialogues", body)


def _html(rows: list[list[str]]) -> str:
    lines = []
    for place, row in enumerate(rows):
        kind = "td" if place else "th"
        lines.append("".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in row))
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _curve(results: Results) -> Image.Image:
    plt = pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.0), dpi=110, sharey=True)
    numbers = [int(number) for number in results[TRUE][NATIVE] if number != "all"]
    for axis, metric in zip(axes, ("mIoU", "cIoU"), strict=True):
        for history, colour in ((TRUE, "#1d4ed8"), (PREDICTED, "#b54708")):
            values = [results[history][NATIVE][str(number)][metric] for number in numbers]
            axis.plot(numbers, values, marker="o", color=colour, label=f"{history} history")
        axis.set_xlabel("round")
        axis.set_title(metric, fontsize=11)
        axis.set_xticks(numbers)
        axis.set_ylim(0, 1.02)
        axis.grid(color="#eef0f3")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    figure.tight_layout()
    return rendered(figure)


def _case(item: PlayedDialogue, dialogue: DialogueRecord) -> str:
    head = f"<h3>{html.escape(item.id)} <em>mean IoU {item.mean_iou(PREDICTED):.3f} with predicted history, "
    head += f"{item.mean_iou(TRUE):.3f} with true</em></h3>"
    try:
        picture = dialogue.picture()
    except InputError as error:
        return f'<div class="case">{head}<p class="down">cannot be drawn: {html.escape(str(error))}</p></div>'
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = picture.resize(size, Image.Resampling.LANCZOS)
    panels = "".join(
        _panel(number, small, one, with_truth, true.truth())
        for number, (one, with_truth, true) in enumerate(
            zip(item.rounds[PREDICTED], item.rounds[TRUE], dialogue.rounds, strict=True), start=1
        )
    )
    return f'<div class="case">{head}<div class="strip">{panels}</div></div>'


def _panel(number: int, small: Image.Image, one: PlayedRound, with_truth: PlayedRound, truth: np.ndarray) -> str:
    found, true = (resize_mask(mask, small.size) for mask in (decode_mask(one.mask), truth))
    left, right = (np.asarray(overlay(small, mask[None])) for mask in (found, true))
    drawn = np.concatenate([left, np.full((small.height, GAP, 3), 255, dtype=np.uint8), right], axis=1)
    about = f" <small>about {', '.join(map(str, one.references))}</small>" if one.references else ""
    words = (
        f"<b>{number}.</b> {html.escape(one.question)}{about}<br>IoU {one.iou:.3f}, true history {with_truth.iou:.3f}"
    )
    if one.problem:
        words += f'<br><span class="down">{html.escape(one.problem)}</span>'
    source = embedded(Image.fromarray(drawn))
    return f'<div><img alt="answer and truth of round {number}" src="{source}"><p>{words}</p></div>'
