"""Pictures of labels: palette, overlay with a legend, heat maps."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
GOLDEN = 0.61803398875
LEGEND_LINES = 24
MIN_SIDE = 384  # pixels; smaller pictures are enlarged, so that the legend can be read
_PAPER, _INK, _FAINT = (255, 255, 255), (24, 24, 24), (110, 110, 110)


def colour_of_label(number: int) -> Colour:
    """The colour of a value of a label map: black for 0, then hues apart by the golden ratio."""
    if number == 0:
        return (0, 0, 0)
    index = number - 1
    # Hues come close after a dozen; brightness then tells them apart.
    red, green, blue = colorsys.hsv_to_rgb(GOLDEN * index % 1, 0.72, (0.95, 0.72, 0.52)[index // 12 % 3])
    return (round(255 * red), round(255 * green), round(255 * blue))


def palette(count: int) -> np.ndarray:
    """uint8 count x 3, the colours of the values of a label map."""
    return np.array([colour_of_label(number) for number in range(count)], dtype=np.uint8)


def label_picture(label_map: np.ndarray, labels: int) -> Image.Image:
    """A label map (int H x W, 0 without a label) as a picture: 8 bits with a palette, or 16 bits above 255 labels."""
    if labels > 255:
        return Image.fromarray(label_map.astype(np.uint16))
    picture = Image.fromarray(label_map.astype(np.uint8), mode="P")
    picture.putpalette(palette(labels + 1).tobytes())
    return picture


def enlargement(size: tuple[int, int]) -> int:
    """By how much a small picture of (width, height) is enlarged before labels are drawn over it."""
    return max(1, -(-MIN_SIDE // max(size)))


def tint_labels(image: Image.Image, label_map: np.ndarray, strength: float = 0.6) -> Image.Image:
    """The picture tinted by its labels (int H x W, of the picture's size) with white edges; 0 stays as it is.

    strength: of the colours, from 0 to 1. Small pictures come out larger, by :func:`enlargement`.
    """
    scale = enlargement(image.size)
    large = label_map.repeat(scale, axis=0).repeat(scale, axis=1)
    picture = np.asarray(
        image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST), np.float32
    )
    colours = palette(int(label_map.max()) + 1).astype(np.float32)[large]
    grey = picture.mean(axis=2, keepdims=True)
    tinted = (1 - strength) * (0.5 * picture + 0.5 * grey) + strength * colours
    tinted[large == 0] = picture[large == 0]
    edges = np.zeros(large.shape, dtype=bool)
    edges[:, 1:] |= large[:, 1:] != large[:, :-1]
    edges[1:] |= large[1:] != large[:-1]
    tinted[edges] = 255
    return Image.fromarray(tinted.clip(0, 255).astype(np.uint8))


def draw_labels(
    image: Image.Image, label_map: np.ndarray, names: Sequence[str], strength: float = 0.6, *, count_zero: bool = True
) -> Image.Image:
    """The picture tinted by its labels (int H x W, indices of ``names``), with a legend of those that occur.

    count_zero: False leaves 0 out of the legend and of what its percentages are of.
    """
    tinted = tint_labels(image, label_map, strength)
    counts = np.bincount(label_map.ravel(), minlength=len(names))
    if not count_zero:
        counts[0] = 0
    total = max(1, int(counts.sum()))
    shown = [int(number) for number in np.argsort(-counts, kind="stable") if counts[number]]
    legend = _legend([(names[n], colour_of_label(n) if n else _PAPER, counts[n] / total) for n in shown], tinted.height)
    canvas = Image.new("RGB", (tinted.width + legend.width, max(tinted.height, legend.height)), _PAPER)
    canvas.paste(tinted, (0, 0))
    canvas.paste(legend, (tinted.width, 0))
    return canvas


def _legend(lines: Sequence[tuple[str, Colour, float]], height: int) -> Image.Image:
    size = min(28, max(14, height // 28))
    font, step = ImageFont.load_default(size), round(size * 1.6)
    more = len(lines) - LEGEND_LINES
    lines = lines[:LEGEND_LINES]
    texts = [name if len(name) <= 28 else name[:27] + "…" for name, _, _ in lines]
    wide = max(font.getlength(text) for text in [*texts, "and 99 more"])
    share = font.getlength("100 %")
    width = round(step * 1.6 + wide + size + share + size / 2)
    picture = Image.new("RGB", (width, step * (len(lines) + (more > 0)) + size), _PAPER)
    pen = ImageDraw.Draw(picture)
    for row, (text, (_, colour, fraction)) in enumerate(zip(texts, lines, strict=True)):
        top = size // 2 + row * step
        pen.rounded_rectangle((size // 2, top, size // 2 + size, top + size), 3, fill=colour, outline=_INK)
        pen.text((size // 2 + step, top + size / 2), text, _INK, font, anchor="lm")
        percent = "<1 %" if fraction < 0.01 else f"{fraction:.0%}".replace("%", " %")
        pen.text((width - size // 2, top + size / 2), percent, _FAINT, font, anchor="rm")
    if more > 0:
        pen.text(
            (size // 2 + step, size // 2 + len(lines) * step + size / 2), f"and {more} more", _FAINT, font, anchor="lm"
        )
    return picture


def heatmap(probability: np.ndarray) -> np.ndarray:
    """float H x W in 0..1 to uint8 H x W x 3 in viridis."""
    from matplotlib import colormaps

    return (colormaps["viridis"](np.clip(probability, 0, 1))[..., :3] * 255).round().astype(np.uint8)


def heatmap_grid(
    image: Image.Image,
    maps: Iterable[tuple[str, np.ndarray]],
    columns: int = 3,
    side: int = 320,
    *,
    highest: bool = True,
    title: str = "picture",
) -> Image.Image:
    """The picture and a heat map per name (float H x W in 0..1) with its highest value, in rows of ``columns``.

    highest: False leaves the value out. title: of the picture.

    maps: taken one at a time, since one may be as large as the picture.
    """
    scale = side / max(image.size)
    cell = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    tiles = [(_short(title), image.resize(cell, Image.Resampling.BILINEAR))]
    for name, values in maps:
        words = _short(name) + (f"  (up to {values.max():.2f})" if highest else "")
        tiles.append((words, Image.fromarray(heatmap(values)).resize(cell, Image.Resampling.BILINEAR)))
    columns = min(columns, len(tiles))
    gap, title_height = 12, 28
    width, step = cell[0] + gap, cell[1] + title_height + gap
    canvas = Image.new("RGB", (columns * width + gap, -(-len(tiles) // columns) * step + gap), _PAPER)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for index, (words, tile) in enumerate(tiles):
        left, top = gap + index % columns * width, gap + index // columns * step
        pen.text((left, top + title_height / 2), words, _INK, font, anchor="lm")
        canvas.paste(tile, (left, top + title_height))
    return canvas


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"
