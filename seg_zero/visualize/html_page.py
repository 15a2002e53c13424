"""Shared by the pages: the style sheet, pictures inside the file, plots, bars, and figures drawn without a display."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

# The colours of outcomes, from best to worst, are apart for all kinds of colour vision, and dark enough for white text
# or light enough for black.
STYLE = """
:root { color-scheme: light; --ink: #1d2433; --soft: #5b6475; --line: #e4e7ec; --before: #b54708; --after: #067647;
  --bar: #1d4ed8; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 32px 20px 64px; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: break-word; }
h1 { margin: 0 0 8px; font-size: 30px; line-height: 1.2; } h2 { margin: 44px 0 8px; font-size: 21px; }
p { margin: 8px 0; max-width: 46em; } p.lead { font-size: 18px; } .note { color: var(--soft); font-size: 14px; }
small { font-size: 14px; color: var(--soft); font-weight: 400; }
code, pre { font: 14px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { margin: 4px 0 16px; padding: 10px 14px; background: #f5f6f8; border-radius: 8px; white-space: pre-wrap;
  overflow-wrap: anywhere; } pre span { white-space: nowrap; }
.warning { border-left: 4px solid #b54708; background: #fff6ed; padding: 10px 14px; margin: 14px 0; max-width: none; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 14px; margin: 18px 0; }
.tile { border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.tile b { display: block; font-size: 26px; font-variant-numeric: tabular-nums; }
.tile span { display: block; } .tile small { display: block; line-height: 1.4; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th, td { padding: 7px 10px; border-bottom: 1px solid var(--line); }
th, td { text-align: right; vertical-align: top; font-variant-numeric: tabular-nums; } th { font-weight: 600; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; padding-left: 0; }
td:first-child small { display: block; line-height: 1.4; }
.words td, .words th { text-align: left; } .words td:last-child { white-space: normal; overflow-wrap: anywhere; }
.up { color: var(--after); } .down { color: var(--before); }
details { margin: 18px 0; } summary { cursor: pointer; font-weight: 600; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); gap: 22px 26px; margin: 16px 0; }
.plots figure { margin: 0; } .plots img { width: 100%; } .plots h3 { margin: 0; font-size: 16px; }
.plots p { margin: 2px 0 6px; font-size: 14px; color: var(--soft); line-height: 1.4; }
img { display: block; max-width: 100%; height: auto; border-radius: 6px; }
@media (min-width: 641px) { .plots p { min-height: 2.8em; } }
.case { border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; margin: 14px 0; }
.case h3 { margin: 0 0 10px; font-size: 17px; overflow-wrap: anywhere; } .case h3 small { display: block; }
.panels { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); }
.panels.three { grid-template-columns: repeat(3, 1fr); }
.panels figure { margin: 0; } .panels > * { min-width: 0; }
figcaption { margin: 6px 0 0; font-size: 14px; overflow-wrap: anywhere; } figcaption i { color: var(--soft); }
.verdict { margin: 10px 0 0; font-size: 15px; } .panels .verdict { margin: 0; grid-column: 1 / -1; }
.histogram { display: flex; align-items: flex-end; gap: 3px; height: 220px; margin: 18px 0 0; max-width: 720px; }
.histogram div { flex: 1 1 0; display: flex; flex-direction: column; justify-content: flex-end; height: 100%;
  text-align: center; font-size: 13px; min-width: 0; }
.histogram i { display: block; background: var(--bar); border-radius: 2px 2px 0 0; }
.scale { display: flex; justify-content: space-between; max-width: 720px; border-top: 1px solid var(--ink);
  font-size: 13px; font-variant-numeric: tabular-nums; }
.parts { display: flex; height: 26px; border-radius: 5px; overflow: hidden; gap: 1px; }
.parts span { display: block; min-width: 3px; font-size: 13px; line-height: 26px; text-align: center;
  overflow: hidden; }
.bar { margin: 12px 0; } .bar p { margin: 0 0 3px; max-width: none; display: flex; justify-content: space-between;
  gap: 12px; } .bar p span:first-child { min-width: 0; overflow-wrap: anywhere; }
.bar p span:last-child { white-space: nowrap; font-variant-numeric: tabular-nums; }
ul.legend { list-style: none; margin: 12px 0; padding: 0; display: grid; gap: 4px 20px; font-size: 14px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
ul.legend li { padding-left: 22px; position: relative; line-height: 1.4; }
ul.legend li i { position: absolute; left: 0; top: 3px; width: 14px; height: 14px; border-radius: 3px; }
@media (max-width: 640px) {
  body { padding: 20px 14px 48px; } h1 { font-size: 26px; } p.lead { font-size: 17px; }
  .panels.three { grid-template-columns: 1fr 1fr; } .panels.three .verdict { grid-column: auto; }
  th, td { padding: 7px 6px; }
}
"""

_QUALITY = 80  # of WebP: no visible loss at the size of the pages


def embedded(image: Image.Image) -> str:
    """The picture as the ``src`` of an image in the page, WebP."""
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def picture(image: Image.Image, description: str) -> str:
    """An image with its description for those who cannot see it; never shown larger than it is, so always sharp."""
    return (
        f'<img alt="{html.escape(description)}" width="{image.width}" height="{image.height}" src="{embedded(image)}">'
    )


def panel(image: Image.Image, description: str, caption: str) -> str:
    """A :func:`picture` above its caption, which is HTML."""
    return f"<figure>{picture(image, description)}<figcaption>{caption}</figcaption></figure>"


def tile(name: str, value: str, meaning: str, interval: str = "") -> str:
    """A number in large print with its name above, and its interval, if any, and its meaning below."""
    below = f"<span>{interval}</span>" if interval else ""
    return f'<div class="tile"><span>{name}</span><b>{value}</b>{below}<small>{html.escape(meaning)}</small></div>'


def plot(figure: Any, description: str) -> str:
    """A matplotlib figure as a vector image, closed afterwards."""
    plt = pyplot()
    buffer = io.BytesIO()
    with plt.rc_context({"svg.hashsalt": "seg-zero"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(description)}" src="data:image/svg+xml;base64,{data}">'


def histogram(counts: Sequence[int], low: float, high: float, description: str) -> str:
    """Counts of equally wide classes from ``low`` to ``high`` as columns with their numbers."""
    most = max(*counts, 1)
    columns = "".join(f'<div>{count or ""}<i style="height:{88 * count / most:.1f}%"></i></div>' for count in counts)
    marks = "".join(f"<span>{low + (high - low) * i / 5:.1f}</span>" for i in range(6))
    name = html.escape(f"{description}: {', '.join(map(str, counts))}")
    return f'<div class="histogram" role="img" aria-label="{name}">{columns}</div><div class="scale">{marks}</div>'


def parts_bar(name: str, value: str, parts: Sequence[tuple[str, int, str]]) -> str:
    """A named bar of parts (name, count, colour), each as long as its fraction; ``value`` stands at its right."""
    total = max(1, sum(count for _, count, _ in parts))
    shown = [part for part in parts if part[1]]
    spans = "".join(
        f'<span style="flex:{count} 0 0;background:{colour};color:{_ink_on(colour)}" '
        f'title="{html.escape(label)}: {count}">{count if count / total >= 0.03 * len(str(count)) else ""}</span>'
        for label, count, colour in shown
    )
    spoken = html.escape(", ".join(f"{label}: {count}" for label, count, _ in shown))
    return (
        f'<div class="bar"><p><span>{html.escape(name)}</span><span>{value}</span></p>'
        f'<div class="parts" role="img" aria-label="{spoken}">{spans}</div></div>'
    )


def legend(entries: Sequence[tuple[str, str, str]]) -> str:
    """The meaning of colours: (name, meaning, colour) each."""
    return (
        '<ul class="legend">'
        + "".join(
            f'<li><i style="background:{colour}"></i><b>{html.escape(name)}</b>: {html.escape(meaning)}</li>'
            for name, meaning, colour in entries
        )
        + "</ul>"
    )


def _ink_on(colour: str) -> str:
    """Black or white, whichever is easier to read on a colour (#rrggbb)."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#000" if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else "#fff"


def warning_box(message: str | None) -> str:
    """A warning that cannot be overlooked; nothing for None."""
    return "" if message is None else f'<p class="warning"><b>Warning:</b> {html.escape(message)}.</p>'


def pyplot() -> Any:
    """matplotlib without a display; imported late, since few pages need it."""
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
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    )
