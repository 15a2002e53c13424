"""One picture of a data set: tiles beside their label maps, chosen so that every class is seen, with a legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seg_zero.data.contact_sheet import font_for, wrapped
from seg_zero.errors import InputError
from seg_zero.files import shown
from seg_zero.images import load_image
from seg_zero.metrics.semantic import IGNORE
from seg_zero.open_vocabulary.pictures import colour_of_label, palette
from seg_zero.remote_sensing.data.check import CheckReport, TileCheck

SIDE = 260  # of a tile, in pixels
_COLUMNS, _GAP, _ROW = 3, 18, 24
_LARGE = 2_000_000  # pixels of a picture, as it is read for the sheet
_PAPER, _INK, _FAINT, _WRONG = (255, 255, 255), (28, 28, 28), (115, 115, 115), (185, 28, 28)


def contact_sheet(report: CheckReport, most: int = 12) -> Image.Image:
    """Up to ``most`` usable tiles, each beside its labels; under them what cannot be used."""
    tiles = report.tiles
    chosen = choose(report.usable, len(tiles.classes), most)
    columns = min(_COLUMNS, max(2, len(chosen)))
    wide = columns * (2 * SIDE + 4 + _GAP) + _GAP
    legend = _legend(report, wide - 2 * _GAP)
    rows = -(-len(chosen) // columns)
    problems = _problems(report, wide - 2 * _GAP)
    top = 70 + legend.height
    sheet = Image.new("RGB", (wide, top + rows * (SIDE + 40) + problems.height + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    title = f"{tiles.title}: {len(chosen)} of {len(report.checked):,} tiles"
    pen.text((_GAP, 14), title, _INK, ImageFont.load_default(24))
    pen.text((_GAP, 46), shown(f"{tiles.folder}, split {tiles.split}"), _FAINT, font_for(str(tiles.folder), 13))
    sheet.paste(legend, (_GAP, 66))
    for place, one in enumerate(chosen):
        left, upper = _GAP + place % columns * (2 * SIDE + 4 + _GAP), top + place // columns * (SIDE + 40)
        _draw(sheet, pen, report, one, (left, upper))
    sheet.paste(problems, (_GAP, top + rows * (SIDE + 40)))
    return sheet


def choose(checked: Sequence[TileCheck], classes: int, most: int) -> list[TileCheck]:
    """Tiles such that each class occurs if it can: first the best tile of the rarest class, and so on; then others
    evenly spread. In the order of the data set."""
    if not checked:
        return []
    pixels = np.stack([one.pixels for one in checked])
    taken: list[int] = []
    covered = np.zeros(classes, dtype=bool)
    for number in np.argsort(pixels.sum(axis=0), kind="stable"):
        if len(taken) < most and not covered[number] and pixels[:, number].any():
            best = int(pixels[:, number].argmax())
            taken.append(best)
            # A few pixels do not show a class.
            covered |= pixels[best] > 0.01 * pixels[best].sum()
    for place in np.linspace(0, len(checked) - 1, most).round().astype(int).tolist():
        if len(taken) < most and place not in taken:
            taken.append(place)
    return [checked[place] for place in sorted(taken)]


def _draw(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, report: CheckReport, one: TileCheck, at: tuple[int, int]
) -> None:
    tiles, (left, top) = report.tiles, at
    try:
        picture = load_image(tiles.listing.pairs[one.index].image, _LARGE)
        labels = tiles.labels(one.index)
    except InputError:  # it was readable a moment ago
        pen.rectangle((left, top, left + 2 * SIDE, top + SIDE), outline=_WRONG)
        return
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = picture.resize(size, Image.Resampling.LANCZOS)
    sheet.paste(small, (left + SIDE - size[0], top + (SIDE - size[1]) // 2))
    drawn = colour_labels(
        np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)), len(tiles.classes)
    )
    sheet.paste(drawn, (left + SIDE + 4, top + (SIDE - size[1]) // 2))
    name = wrapped(shown(one.name), font_for(one.name, 13), 1, 2 * SIDE - 90)
    pen.text((left, top + SIDE + 4), name[0] if name else "", _INK, font_for(one.name, 13))
    pen.text(
        (left + 2 * SIDE + 4, top + SIDE + 5), f"{one.size[0]}x{one.size[1]}", _FAINT, ImageFont.load_default(12), "ra"
    )


def colour_labels(labels: np.ndarray, classes: int) -> Image.Image:
    """Labels (H x W, IGNORE where there is none) in the colours of the classes; ignored pixels are hatched."""
    colours = palette(classes + 1)[np.where(labels == IGNORE, 0, labels.astype(np.int64) + 1)]
    rows, columns = np.indices(labels.shape)
    hatch = np.where((rows + columns) % 8 < 2, 150, 225).astype(np.uint8)
    return Image.fromarray(np.where((labels == IGNORE)[..., None], hatch[..., None], colours).astype(np.uint8))


def _legend(report: CheckReport, width: int) -> Image.Image:
    pixels = report.pixels()
    total = max(1, pixels.sum())
    font, entries = ImageFont.load_default(15), []
    for number, name in enumerate(report.tiles.classes):
        part = 100 * pixels[number] / total
        share = "none" if not pixels[number] else "<0.1 %" if part < 0.1 else f"{part:.1f} %"
        entries.append((number, name, share))
    column = round(max(font.getlength(f"{name}  {share}") for _, name, share in entries)) + 52
    columns = max(1, width // column)
    picture = Image.new("RGB", (width, -(-len(entries) // columns) * _ROW + 14), _PAPER)
    pen = ImageDraw.Draw(picture)
    for place, (number, name, share) in enumerate(entries):
        left, top = place % columns * column, place // columns * _ROW + 4
        pen.rounded_rectangle((left, top, left + 15, top + 15), 3, fill=colour_of_label(number + 1))
        pen.text((left + 23, top + 8), name, _INK if pixels[number] else _FAINT, font, anchor="lm")
        pen.text((left + 31 + font.getlength(name), top + 8), share, _FAINT, font, anchor="lm")
    return picture


def _problems(report: CheckReport, width: int, most: int = 8) -> Image.Image:
    problems = report.problems
    if not problems:
        return Image.new("RGB", (width, 1), _PAPER)
    texts = [f"{len(problems):,} cannot be used"]
    texts += [f"{name}: {problem}" for name, problem in problems[:most]]
    texts += [f"and {len(problems) - most:,} more"] if len(problems) > most else []
    picture = Image.new("RGB", (width, 21 * len(texts) + 8), _PAPER)
    pen = ImageDraw.Draw(picture)
    for row, text in enumerate(texts):
        line = wrapped(shown(text), font_for(text, 15 if row == 0 else 13), 1, width)
        pen.text((0, 21 * row + 4), line[0], _WRONG if row == 0 else _INK, font_for(text, 15 if row == 0 else 13))
    return picture
