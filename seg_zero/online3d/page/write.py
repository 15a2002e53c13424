"""Writes the page of a scan: one HTML file that loads nothing else."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.files import write_text
from seg_zero.online3d.answers.naming import read_names
from seg_zero.online3d.results.files import colour_of, read_result
from seg_zero.online3d.results.result import Result
from seg_zero.online3d.scan import ScanSummary, read_summary
from seg_zero.visualize.html_page import document

_STYLE = """
.scan { display: grid; grid-template-columns: minmax(0, 1fr) 300px; gap: 18px; margin-top: 18px; }
.scan canvas { width: 100%; height: 560px; border: 1px solid var(--line); border-radius: 10px; touch-action: none;
  cursor: grab; display: block; }
.scan canvas:focus-visible { outline: 2px solid #175cd3; outline-offset: 2px; }
.controls { display: flex; flex-wrap: wrap; gap: 8px 20px; align-items: center; margin: 10px 0 0; font-size: 14px; }
.controls button { font: inherit; padding: 5px 12px; border: 1px solid #98a2b3; border-radius: 6px; background: #fff;
  color: inherit; }
.scan ol { list-style: none; margin: 0; padding: 0; max-height: 560px; overflow-y: auto; border: 1px solid var(--line);
  border-radius: 10px; }
.scan li { display: grid; grid-template-columns: 26px 1fr; gap: 2px 10px; padding: 8px 12px; align-items: center;
  border-bottom: 1px solid var(--line); }
.scan li:last-child { border-bottom: 0; } .scan li.chosen { background: #f2f4f7; }
.scan li button { width: 26px; height: 26px; border: 2px solid #fff; border-radius: 7px; cursor: pointer; padding: 0;
  box-shadow: 0 0 0 1px #98a2b3; }
.scan li.chosen button { box-shadow: 0 0 0 2px var(--ink); }
.scan li input { font: inherit; width: 100%; border: 1px solid transparent; border-radius: 4px; padding: 1px 4px;
  background: none; color: inherit; }
.scan li input:hover, .scan li input:focus { border-color: #98a2b3; background: #fff; }
.scan li span { grid-column: 2; font-size: 13px; color: var(--soft); padding-left: 5px; }
#status { min-height: 1.5em; margin: 8px 0 0; font-size: 14px; }
@media (max-width: 760px) { .scan { grid-template-columns: minmax(0, 1fr); } .scan canvas { height: 380px; } }
"""


@dataclass(frozen=True)
class Highlight:
    """Objects to show before all others, by column, and what is said about every object."""

    columns: Sequence[int]
    remarks: Sequence[str]


def write_page(folder: Path, path: Path, max_points: int = 150_000) -> None:
    """The page of the scan in ``folder``, with at most ``max_points`` points. Raises InputError if there is none."""
    result, summary = read_result(folder), read_summary(folder)
    write_text(path, page(result, summary, folder.resolve().name, max_points, read_names(folder, result)))


def page(
    result: Result, summary: ScanSummary | None, name: str, max_points: int, names: Sequence[str] | None = None
) -> str:
    """The HTML text of the page. names: of the objects, empty where there is none."""
    title = title_of(summary, name)
    points = cloud(result, summary, name, max_points, names=names)
    body = f'<h1>{html.escape(title)}</h1><p class="lead">{html.escape(_facts(result, summary))}</p>{points}'
    return document(html.escape(title), body)


def title_of(summary: ScanSummary | None, name: str) -> str:
    return f"Scan of {name if summary is None else Path(summary.sequence).name}"


def cloud(
    result: Result,
    summary: ScanSummary | None,
    name: str,
    max_points: int,
    highlight: Highlight | None = None,
    names: Sequence[str] | None = None,
) -> str:
    """The points to turn and the list of objects, for the body of a page; names are kept under ``name``."""
    chosen = sample(len(result.points), max_points)
    points = result.points[chosen]
    low = points.min(0) if len(points) else np.zeros(3)
    extent = np.maximum((points.max(0) if len(points) else np.ones(3)) - low, 1e-3)
    grid = np.round((points - low) / extent * 65535).astype("<u2")
    owner = result.owner
    first = [] if highlight is None else list(highlight.columns)
    info = {
        "key": name,
        "extent": extent.tolist(),
        "turn": upright(summary.up if summary else [0.0, 0.0, 1.0]).tolist(),
        "size": 0.03 * max(1.0, (len(result.points) / max(len(chosen), 1)) ** 0.5),
        "instances": _instances(result, owner, None if highlight is None else highlight.remarks, names),
        "answer": first,
        "order": [*first, *(column for column in range(result.count) if column not in first)],
    }
    only = '<label><input type="checkbox" id="only" checked> Only the answer</label>' if first else ""
    parts = [
        f'<style>{_STYLE}</style><div class="scan"><div>',
        '<canvas id="view" tabindex="0" role="img" aria-label="Point cloud; arrow keys turn it, plus and minus zoom">'
        "</canvas>",
        f'<div class="controls">{only}<label><input type="checkbox" id="photo"> Colours of the pictures</label>',
        '<label>Cut away the front <input type="range" id="cut" min="0" max="90" value="25"></label>',
        '<button type="button" id="save">Save the names</button></div>',
        '<p id="status" role="status"></p>',
        '<p class="note">Drag to turn, Shift and drag to move, wheel or two fingers to zoom.</p>',
        '</div><ol id="instances" aria-label="Objects" tabindex="0"></ol></div>',
        _data("scan-points", grid.tobytes()),
        _data("scan-colours", np.ascontiguousarray(result.colours[chosen]).tobytes()),
        _data("scan-owner", owner[chosen].astype("<i2").tobytes()),
        f'<script type="application/json" id="scan-info">{_json(info)}</script>',
        f"<script>{files(__package__).joinpath('viewer.js').read_text(encoding='utf-8')}</script>",
    ]
    return "".join(parts)


def sample(count: int, most: int) -> np.ndarray:
    """At most ``most`` of ``count`` places, ascending, chosen at random but always the same."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def _instances(
    result: Result, owner: np.ndarray, remarks: Sequence[str] | None, names: Sequence[str] | None
) -> list[dict[str, Any]]:
    found = []
    for column in range(result.count):
        points = result.points[owner == column]
        edges = np.zeros(3) if not len(points) else points.max(0) - points.min(0)
        size = " x ".join(f"{edge:.1f}" for edge in edges)
        seen = len(result.key_frames[column])
        remark = f"{remarks[column]}; " if remarks is not None else ""
        found.append(
            {
                "number": int(result.numbers[column]),
                "colour": colour_of(column),
                "label": names[column] if names is not None else "",
                "facts": f"{remark}{size} m, {len(points):,} points, {seen} key frames",
            }
        )
    return found


def _facts(result: Result, summary: ScanSummary | None) -> str:
    text = f"{result.masks.shape[1]} objects, {len(result.points):,} points"
    if summary is not None:
        text += f", from {summary.lifted} masks in {summary.used} key frames"
        if summary.left_out:
            text += f"; {len(summary.left_out)} key frames left out"
    return text


def upright(up: list[float]) -> np.ndarray:
    """A rotation 3 x 3 that takes the direction ``up`` to z; the identity for no direction."""
    axis = np.array(up, dtype=np.float64)
    if not np.linalg.norm(axis) > 1e-9:
        return np.eye(3)
    axis /= np.linalg.norm(axis)
    helper = np.eye(3)[np.argmin(np.abs(axis))]
    first = np.cross(axis, helper)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(axis, first), axis])


def _data(name: str, content: bytes) -> str:
    text = base64.b64encode(content).decode("ascii")
    return f'<script type="application/octet-stream" id="{name}">{text}</script>'


def _json(value: Any) -> str:
    """JSON that may stand in a script element."""
    return json.dumps(value).replace("<", "\\u003c")
