"""Shared by the pages: the style sheet, pictures inside the file, and figures drawn without a display."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from seg_zero.images import encode_png

STYLE = """
:root { color-scheme: light; --ink: #1d2433; --soft: #667085; --line: #e4e7ec; --before: #b54708; --after: #067647; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 32px 20px 64px; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0 0 4px; font-size: 30px; } h2 { margin: 44px 0 10px; font-size: 21px; }
p.lead, .note { color: var(--soft); } .note { font-size: 14px; }
.tiles { display: flex; flex-wrap: wrap; gap: 14px; margin: 22px 0; }
.tile { flex: 1 1 200px; border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px; }
.tile b { display: block; font-size: 26px; } .tile span { color: var(--soft); font-size: 14px; }
table { border-collapse: collapse; width: 100%; } th, td { padding: 7px 12px; border-bottom: 1px solid var(--line); }
th, td { text-align: right; font-variant-numeric: tabular-nums; } th { font-weight: 600; }
th:first-child { text-align: left; }
td:first-child, .words td { text-align: left; overflow-wrap: anywhere; }
.up { color: var(--after); } .down { color: var(--before); }
.wide { overflow-x: auto; }
.curves img { width: 100%; height: auto; }
.case { border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; margin: 14px 0; }
.case h3 { margin: 0 0 10px; font-size: 16px; }
.case h3 em { color: var(--soft); font-style: normal; font-weight: 400; }
.panels { display: grid; grid-template-columns: repeat(3, 1fr); gap: 14px; }
.panels img { width: 100%; border-radius: 6px; image-rendering: pixelated; display: block; }
.panels p { margin: 6px 0 0; font-size: 14px; overflow-wrap: anywhere; } .panels small { color: var(--soft); }
@media (max-width: 640px) { .panels { grid-template-columns: 1fr; } }
"""


def embedded(image: Image.Image) -> str:
    """The picture as the ``src`` of an image in the page."""
    return "data:image/png;base64," + base64.b64encode(encode_png(image)).decode("ascii")


def pyplot() -> Any:
    """matplotlib without a display; imported late, since only the demo's pictures need it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def rendered(figure: Any) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    pyplot().close(figure)
    return Image.open(buffer)


def document(title: str, body: str) -> str:
    """A whole HTML page with the style sheet."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>{body}</body></html>"
    )
