"""The report of an evaluation of scans: the numbers in words, by scan, and by class."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from seg_zero.online3d.evaluation.judge import Judgement
from seg_zero.visualize.html_page import document, tile

MEANINGS = {
    "AP50": "precision over recall; an object is right if its IoU with a true one is above 0.5",
    "AP25": "the same above 0.25: found, but roughly",
    "AP": "mean over IoUs of 0.50 to 0.90: how exact the objects are",
}
ORDER = ("AP50", "AP25", "AP")
_BARS = """<style>
.ap { display: inline-block; vertical-align: middle; width: 90px; height: 10px; margin-left: 8px; border-radius: 3px;
  background: var(--line); } .ap i { display: block; height: 100%; border-radius: 3px; background: var(--bar); }
@media (max-width: 640px) { .ap { display: none; } }
</style>"""


def evaluation_page(judged: Judgement, min_vertices: int, registered: bool = False) -> str:
    """The HTML text of the page, which loads nothing else."""
    count = len(judged.scans)
    true, predicted = (sum(getattr(one, name) for one in judged.scans.values()) for name in ("true", "predicted"))
    scans = "1 scan" if count == 1 else f"{count} scans"
    how = "The truth was brought onto the points" if registered else "Points are not registered to each other"
    body = [
        f'{_BARS}<h1>Evaluation of {scans}</h1><p class="lead">{predicted} objects were found, {true} are there. The '
        "names of objects do not count in these numbers, only their points.</p>",
        f'<div class="tiles">{_tiles(judged.together)}</div>',
        f'<p class="note">Average precision by the rules of the ScanNet benchmark, 1 is best. Objects of less than '
        f"{min_vertices} points of the truth do not count. {how}.</p>",
        "<h2>By scan</h2>",
        _table(
            ("scan", "found", "true"),
            [
                ([Path(name).name or name, str(one.predicted), str(one.true)], one.metric.result())
                for name, one in judged.scans.items()
            ],
        ),
    ]
    if judged.classes:
        rows = sorted(judged.classes.items(), key=lambda item: (item[1]["AP50"], item[0]))
        body.append(
            '<h2>By class</h2><p class="note">An object must have the name of the true one as well. Worst first.</p>'
        )
        body.append(_table(("class",), [*(([name], values) for name, values in rows), (["mean"], judged.mean)]))
    return document(f"Evaluation of {scans}", "".join(body))


def _tiles(values: Mapping[str, float]) -> str:
    return "".join(tile(name, _number(values[name]), MEANINGS[name]) for name in ORDER)


def _table(head: Sequence[str], rows: Sequence[tuple[list[str], Mapping[str, float]]]) -> str:
    titles = "".join(f"<th>{name}</th>" for name in (*head, *ORDER))
    lines = []
    for cells, values in rows:
        shown = [html.escape(cell) for cell in cells] + [_cell(values[name]) for name in ORDER]
        lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in shown)}</tr>")
    return f'<div class="wide"><table><tr>{titles}</tr>{"".join(lines)}</table></div>'


def _cell(value: float) -> str:
    width = 0.0 if math.isnan(value) else 100 * value
    return f'{_number(value)}<span class="ap"><i style="width:{width:.0f}%"></i></span>'


def _number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.3f}"
