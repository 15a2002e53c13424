"""One picture of many rows: images with masks, boxes and points drawn, the question underneath."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seg_zero.data.rows import Row
from seg_zero.data.source import RowSource
from seg_zero.errors import InputError
from seg_zero.metrics import IGNORE
from seg_zero.visualize import overlay

TILE = 300  # longer side of a picture, in pixels
COLUMNS = 4
_GAP, _LINES = 16, 4
_INK, _FAINT, _WRONG, _PAPER = (30, 30, 30), (125, 125, 125), (190, 30, 30), (255, 255, 255)


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)).astype(bool)


def _layers(row: Row, shape: tuple[int, int]) -> list[np.ndarray]:
    """Target and ignored pixels; none if the mask does not belong to the image."""
    truth = row.truth()
    if truth is None or truth.shape != shape:
        return []
    return [np.asarray(truth == 1), *([truth == IGNORE] if (truth == IGNORE).any() else [])]


def draw_row(row: Row, side: int = TILE) -> Image.Image:
    """The row's picture in its original proportions, ``side`` pixels at the longer side, with its ground truth.

    Raises InputError or ValueError if image, solution or mask cannot be read.
    """
    image = row.image()
    width, height = (row.img_width, row.img_height) if row.img_width and row.img_height else image.size
    scale = side / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    masks = [_resized(mask, size) for mask in _layers(row, (image.height, image.width))]
    objects = [item.scaled(size[0] / image.width, size[1] / image.height) for item in row.objects()]
    small = image.resize(size, Image.Resampling.LANCZOS)
    return overlay(small, np.array(masks).reshape(len(masks), size[1], size[0]), objects)


def _tile(source: RowSource, number: int, note: str | None) -> tuple[Image.Image | None, str, str, str | None]:
    """Picture, heading, question and what is wrong."""
    heading = f"row {source.number(number)}"
    try:
        row = source[number]
    except InputError as error:
        return None, heading, "", note or str(error)
    heading += f"  {row.id}"
    try:
        return draw_row(row), heading, row.problem, note
    except (InputError, ValueError) as error:
        return None, heading, row.problem, note or str(error)


def contact_sheet(
    source: RowSource, numbers: Sequence[int], title: str, notes: dict[int, str] | None = None
) -> Image.Image:
    """The rows at ``numbers`` on one sheet; ``notes`` (by place in the source) say in red what is wrong with one."""
    title_font, font, small = (ImageFont.load_default(size) for size in (20, 15, 12))
    tiles = [_tile(source, number, (notes or {}).get(number)) for number in numbers]
    cell_height = TILE + 22 + 19 * _LINES + _GAP
    columns = min(COLUMNS, max(1, len(tiles)))
    head = 64
    sheet_size = (max(640, columns * (TILE + _GAP) + _GAP), head + -(-len(tiles) // columns) * cell_height + _GAP)
    sheet = Image.new("RGB", sheet_size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 12), title, _INK, title_font)
    legend = "pink: mask    blue: ignored    white frame: box    red dot: point"
    draw.text((_GAP, 40), legend, _FAINT, small)
    for place, (picture, heading, question, wrong) in enumerate(tiles):
        x, y = _GAP + place % columns * (TILE + _GAP), head + place // columns * cell_height
        if picture is None:
            draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), fill=(244, 238, 238), outline=(220, 200, 200))
            draw.text((x + TILE / 2, y + TILE / 2), "cannot be drawn", _WRONG, font, anchor="mm")
        else:
            sheet.paste(picture, (x + (TILE - picture.width) // 2, y + (TILE - picture.height) // 2))
        y += TILE + 4
        draw.text((x, y), textwrap.shorten(heading, 48, placeholder="…"), _FAINT, small)
        lines = _wrapped(question, font, draw, _LINES - (1 if wrong else 0))
        colours = [_INK] * len(lines)
        if wrong:
            lines += _wrapped(wrong, font, draw, _LINES - len(lines))
            colours += [_WRONG] * (len(lines) - len(colours))
        for line, (text, colour) in enumerate(zip(lines, colours, strict=True)):
            draw.text((x, y + 18 + 19 * line), text, colour, font)
    return sheet


def _wrapped(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, draw: ImageDraw.ImageDraw, most: int
) -> list[str]:
    """The text in lines as wide as a tile, at most ``most`` of them; the last ends in "…" if there is more."""
    lines: list[str] = []
    line = ""
    for character in " ".join(text.split()):
        if draw.textlength(line + character, font) > TILE:
            whole, space, rest = line.rpartition(" ")
            lines, line = [*lines, whole if space else line], rest if space else ""
        line += character
    lines.append(line)
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1][:-2] + "…"] if most else []
    return lines
