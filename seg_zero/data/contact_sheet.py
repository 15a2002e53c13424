"""One picture of many rows: images with masks, boxes and points drawn, the question underneath."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seg_zero.data.rows import Row
from seg_zero.data.source import RowSource
from seg_zero.errors import InputError
from seg_zero.files import shown
from seg_zero.masks import resize_mask
from seg_zero.metrics import IGNORE
from seg_zero.visualize import overlay

TILE = 300  # longer side of a picture, in pixels
COLUMNS = 4
_GAP, _HEAD, _LINE, _MOST_LINES = 16, 64, 19, 5
_INK, _FAINT, _WRONG, _PAPER = (30, 30, 30), (125, 125, 125), (190, 30, 30), (255, 255, 255)
# Pillow's own font has Latin letters only; for other scripts the first of these that the system has.
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "msyh.ttc", "PingFang.ttc", "DejaVuSans.ttf")

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class _Tile:
    picture: Image.Image | None
    heading: str
    lines: list[tuple[str, tuple[int, int, int], Font]]


def font_for(text: str, size: int) -> Font:
    """A font that has the text's letters, as far as the system has one."""
    if any(ord(character) > 0x24F and character.isalpha() for character in text):
        for name in _WIDE_FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def _truth(row: Row, shape: tuple[int, int]) -> np.ndarray | None:
    """The row's ground truth; None without a mask, or if it does not belong to the image or cannot be read."""
    if row.mask is None or any(rle is not None and rle["size"] != list(shape) for rle in (row.mask, row.ignore)):
        return None
    try:
        return np.asarray(row.truth())
    except ValueError:
        return None


def picture_size(row: Row, image: Image.Image, side: int = TILE) -> tuple[int, int]:
    """Width and height in the proportions of the row's original picture, ``side`` pixels at the longer side."""
    width, height = (row.img_width, row.img_height) if row.img_width and row.img_height else image.size
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def draw_row(row: Row, side: int = TILE) -> Image.Image:
    """The row's picture in its original proportions, ``side`` pixels at the longer side, with its ground truth.

    What cannot be read of the ground truth is not drawn. Raises InputError if the image cannot be read.
    """
    image = row.image()
    size = picture_size(row, image, side)
    truth = _truth(row, (image.height, image.width))
    masks = [] if truth is None else [resize_mask(truth == 1, size)]
    ignored = None if truth is None else resize_mask(truth == IGNORE, size)
    try:
        objects = row.objects()
    except InputError:
        objects = ()
    scaled = [item.scaled(size[0] / image.width, size[1] / image.height) for item in objects]
    small = image.resize(size, Image.Resampling.LANCZOS)
    return overlay(small, np.array(masks).reshape(len(masks), size[1], size[0]), scaled, ignored=ignored)


def _tile(source: RowSource, place: int, note: str | None) -> _Tile:
    heading, question, picture = f"row {source.number(place)}", "", None
    try:
        row = source[place]
        heading, question = f"{heading} · {row.id}", row.problem
        picture = draw_row(row)
        if not row.objects():
            heading += " · no object"
    except InputError as error:
        note = note or str(error)
    font = font_for(question, 15)
    lines = [(text, _INK, font) for text in wrapped(question, font, _MOST_LINES - (2 if note else 0))]
    if note:
        font = font_for(note, 15)
        lines += [(text, _WRONG, font) for text in wrapped(note, font, _MOST_LINES - len(lines))]
    return _Tile(picture, textwrap.shorten(heading, 48, placeholder="…"), lines)


def wrapped(text: str, font: Font, most: int, width: int = TILE) -> list[str]:
    """The text in lines of ``width`` pixels, at most ``most`` of them; the last ends in "…" if there is more."""
    lines: list[str] = []
    line = ""
    for character in " ".join(text.split()):
        if font.getlength(line + character) > width:
            whole, space, rest = line.rpartition(" ")
            lines, line = [*lines, whole if space else line], rest if space else ""
        line += character
    if line:
        lines.append(line)
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1][:-2] + "…"]


def contact_sheet(
    source: RowSource, places: Sequence[int], title: str, notes: Mapping[int, str] | None = None
) -> Image.Image:
    """The rows at ``places`` on one sheet; ``notes``, by place, say in red what is wrong with a row."""
    tiles = [_tile(source, place, (notes or {}).get(place)) for place in places]
    columns = min(COLUMNS, max(2, len(tiles)))
    bands = [tiles[first : first + columns] for first in range(0, len(tiles), columns)]
    tallest = [max(TILE // 2 if tile.picture is None else tile.picture.height for tile in band) for band in bands]
    texts = [_LINE * max(len(tile.lines) for tile in band) for band in bands]
    heights = [picture + 26 + text + _GAP for picture, text in zip(tallest, texts, strict=True)]
    sheet = Image.new("RGB", (columns * (TILE + _GAP) + _GAP, _HEAD + sum(heights)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    small = ImageFont.load_default(12)
    draw.text((_GAP, 12), shown(title), _INK, font_for(title, 20))
    draw.text((_GAP, 42), "outline: target     hatched: ignored     dashes: box     disc: point", _FAINT, small)
    top = _HEAD
    for band, below, height in zip(bands, tallest, heights, strict=True):
        for column, tile in enumerate(band):
            x, y = _GAP + column * (TILE + _GAP), top
            if tile.picture is None:
                draw.rectangle((x, y, x + TILE - 1, y + below - 1), fill=(244, 238, 238), outline=(220, 200, 200))
                middle = (x + TILE / 2, y + below / 2)
                draw.text(middle, "cannot be drawn", _WRONG, ImageFont.load_default(15), anchor="mm")
            else:
                corner = (x + (TILE - tile.picture.width) // 2, y + (below - tile.picture.height) // 2)
                sheet.paste(tile.picture, corner)
            draw.text((x, y + below + 4), tile.heading, _FAINT, small)
            for number, (text, colour, font) in enumerate(tile.lines):
                draw.text((x, y + below + 22 + _LINE * number), text, colour, font)
        top += height
    return sheet
