"""The table of OVRSISBench: published rows and ours, as Markdown and as a page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.evaluation.remote_sensing.published import COLUMNS, PUBLISHED, TITLES
from seg_zero.evaluation.semantic.run import Results
from seg_zero.files import write_text
from seg_zero.visualize.html_page import document

FULL = len(COLUMNS)


@dataclass(frozen=True)
class TableRow:
    """cells: mIoU and mACC in percent by data set; mean: over the eight, None if some are missing; trained: the data
    sets that it was trained on."""

    method: str
    trained: tuple[str, ...]
    size: str
    cells: dict[str, tuple[float, float]]
    mean: tuple[float, float] | None
    ours: bool = False


@dataclass(frozen=True)
class Judgement:
    """One data set of ours. in_domain: it holds pictures of the training; shared: how many, None if unknown."""

    name: str
    results: Results
    in_domain: bool = False
    shared: int | None = None

    @property
    def judged(self) -> int:
        return len(self.results.images) - len(self.results.failed)

    def numbers(self) -> dict[str, float]:
        """mIoU, mACC, fwIoU, pACC and boundary IoU, 0..1."""
        return {**self.results.confusion.result("detectron2"), **self.results.boundaries()}

    def note(self) -> str | None:
        """What has to be said beside its numbers."""
        if not self.in_domain:
            return None
        title = TITLES.get(self.name, self.name)
        some = "" if self.shared is None else f" ({self.shared:,} of {len(self.results.images):,})"
        return f"{title} holds pictures of the training{some}: in-domain, not held out."


def our_row(method: str, trained: Sequence[str], judged: Sequence[Judgement]) -> TableRow:
    cells = {}
    for one in judged:
        numbers = one.numbers()
        cells[one.name] = (100 * numbers["mIoU"], 100 * numbers["mACC"])
    mean = None
    if set(COLUMNS) <= set(cells):
        mean = (
            float(np.mean([cells[name][0] for name in COLUMNS])),
            float(np.mean([cells[name][1] for name in COLUMNS])),
        )
    return TableRow(method, tuple(trained), "", cells, mean, ours=True)


def rows_with(ours: TableRow) -> list[TableRow]:
    """All published rows, and ours last."""
    return [TableRow(row.method, (row.trained,), row.size, row.cells, row.mean) for row in PUBLISHED] + [ours]


def markdown(judged: Sequence[Judgement], ours: TableRow) -> str:
    """Our numbers by data set, then the table with the published rows (mIoU/mACC in percent)."""
    lines = ["| data set | tiles | mIoU | mACC | fwIoU | pACC | boundary IoU | |", "|---|---|---|---|---|---|---|---|"]
    for one in judged:
        numbers = one.numbers()
        values = " | ".join(f"{100 * numbers[key]:.2f}" for key in ("mIoU", "mACC", "fwIoU", "pACC", "boundary_IoU"))
        where = "in-domain" if one.in_domain else ""
        lines.append(f"| {TITLES.get(one.name, one.name)} | {one.judged} | {values} | {where} |")
    if ours.mean is not None:
        lines.append(f"| **mean of the {FULL}** | | **{ours.mean[0]:.2f}** | **{ours.mean[1]:.2f}** | | | | |")
    columns = _columns(ours)
    lines += ["", f"| method | trained on | CLIP | {' | '.join(TITLES.get(name, name) for name in columns)} | mean |"]
    lines.append("|---" * (len(columns) + 4) + "|")
    for row in rows_with(ours):
        cells = " | ".join(_pair(row.cells.get(name), name in row.trained) for name in columns)
        bold = "**" if row.ours else ""
        name = f"{bold}{row.method}{bold}"
        lines.append(f"| {name} | {_trained(row)} | {row.size} | {cells} | {_pair(row.mean, False)} |")
    lines += ["", _FOOT, *[note for one in judged if (note := one.note()) is not None]]
    return "\n".join(lines) + "\n"


_FOOT = (
    "mIoU/mACC in percent by detectron2's rule; mean: over the eight data sets; *: in-domain, the data set of the "
    "training. Published rows: arXiv 2509.12040."
)


def _columns(ours: TableRow) -> list[str]:
    return [*COLUMNS, *(name for name in ours.cells if name not in COLUMNS)]


def _trained(row: TableRow) -> str:
    return ", ".join(TITLES.get(name, name) for name in row.trained) or "none"


def _pair(pair: tuple[float, float] | None, own: bool) -> str:
    return "" if pair is None else f"{pair[0]:.2f}/{pair[1]:.2f}{'*' if own else ''}"


def record(judged: Sequence[Judgement], ours: TableRow) -> dict[str, Any]:
    """What benchmark.json holds."""
    return {
        "method": ours.method,
        "trained": list(ours.trained),
        "mean": None if ours.mean is None else {"mIoU": ours.mean[0] / 100, "mACC": ours.mean[1] / 100},
        "datasets": {
            one.name: {**one.numbers(), "tiles": one.judged, "in_domain": one.in_domain, "shared": one.shared}
            for one in judged
        },
    }


def write_table_page(path: Path, judged: Sequence[Judgement], ours: TableRow, missing: Sequence[str]) -> None:
    """The page of the whole benchmark; it links those of the data sets, which lie in folders beside it."""
    notes = [note for one in judged if (note := one.note()) is not None]
    warning = "".join(f'<p class="warning">{html.escape(note)}</p>' for note in notes)
    absent = f'<p class="note">Not found: {html.escape(", ".join(missing))}.</p>' if missing else ""
    body = f"""<h1>OVRSISBench</h1>
<p class="lead"><b>{html.escape(ours.method)}</b>, trained on {html.escape(_trained(ours))}: aerial tiles labelled by
text, {len(judged)} of {FULL} data sets.</p>
{warning}<h2>By data set</h2>{_numbers(judged, ours)}{absent}
<h2>Beside the published rows</h2><p class="note">{html.escape(_FOOT)}</p>{_published(ours)}"""
    write_text(path, document("OVRSISBench", body))


def _numbers(judged: Sequence[Judgement], ours: TableRow) -> str:
    keys = {"mIoU": "mIoU", "mACC": "mACC", "fwIoU": "fwIoU", "pACC": "pACC", "boundary_IoU": "boundary IoU"}
    rows = []
    for one in judged:
        numbers, title = one.numbers(), html.escape(TITLES.get(one.name, one.name))
        cells = "".join(f"<td>{100 * numbers[key]:.2f}</td>" for key in keys)
        where = " <small>in-domain</small>" if one.in_domain else ""
        link = f'<a href="{html.escape(one.name)}/report.html">{title}</a>{where}'
        rows.append(f"<tr><td>{link}</td><td>{one.judged:,}</td>{cells}</tr>")
    if ours.mean is not None:
        mean = f"<td><b>{ours.mean[0]:.2f}</b></td><td><b>{ours.mean[1]:.2f}</b></td><td></td><td></td><td></td>"
        rows.append(f"<tr><td><b>mean of the {FULL}</b></td><td></td>{mean}</tr>")
    heads = "".join(f"<th>{name}</th>" for name in keys.values())
    return f'<div class="wide"><table><tr><th>data set</th><th>tiles</th>{heads}</tr>{"".join(rows)}</table></div>'


def _published(ours: TableRow) -> str:
    """One table for each training set and size, best means first, with ours in each of its training."""
    columns = _columns(ours)
    heads = "".join(f"<th>{html.escape(TITLES.get(name, name))}</th>" for name in columns)
    groups: dict[tuple[str, str], list[TableRow]] = {}
    for row in rows_with(ours)[:-1]:
        groups.setdefault((_trained(row), row.size), []).append(row)
    sections = []
    for (trained, size), rows in groups.items():
        ordered = sorted([*rows, ours], key=lambda row: (-(row.mean or (-1.0, 0.0))[0], row.method))
        lines = "".join(_line(row, columns) for row in ordered)
        sections.append(
            f"<h3>Trained on {html.escape(trained)}, CLIP ViT-{size}</h3>"
            f'<div class="wide"><table><tr><th>method</th>{heads}<th>mean</th></tr>{lines}</table></div>'
        )
    return "".join(sections)


def _line(row: TableRow, columns: Sequence[str]) -> str:
    name = html.escape(row.method)
    name = f"<b>{name}</b><small>ours, trained on {html.escape(_trained(row))}</small>" if row.ours else name
    cells = "".join(f"<td>{_stacked(row.cells.get(column), column in row.trained)}</td>" for column in columns)
    tint = ' style="background:#eef4ff"' if row.ours else ""
    return f"<tr{tint}><td>{name}</td>{cells}<td><b>{_stacked(row.mean, False)}</b></td></tr>"


def _stacked(pair: tuple[float, float] | None, own: bool) -> str:
    return "" if pair is None else f"{pair[0]:.2f}{'*' if own else ''}<br><small>{pair[1]:.2f}</small>"
