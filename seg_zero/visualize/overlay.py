"""Pictures of answers: each object outlined in a hue of its own, with its true colours, and the rest dimmed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seg_zero.answer import Answer
from seg_zero.masks import decode_mask, mask_bounds, resize_mask
from seg_zero.objects import Box, PromptObject
from seg_zero.prompting import PromptSpec, to_image_pixels

Colour = tuple[int, int, int]

# Apart for all kinds of colour vision and bright on dimmed surroundings; after Okabe and Ito, "Color Universal Design".
OBJECT_COLOURS: tuple[Colour, ...] = (
    (93, 202, 255),
    (255, 165, 0),
    (235, 100, 200),
    (255, 245, 90),
    (0, 168, 112),
    (215, 60, 20),
)
NEUTRAL: Colour = (255, 255, 255)  # boxes and points that belong to no mask in particular
DIMMED = 0.5  # how far surroundings go to black by default
_INK: Colour = (20, 20, 20)
_GREYED = 0.4  # of the colour that surroundings lose when they are dimmed


def colour_of(index: int) -> Colour:
    """The hue of an object, counted from 0."""
    return OBJECT_COLOURS[index % len(OBJECT_COLOURS)]


def overlay(
    image: Image.Image,
    masks: np.ndarray,
    objects: Sequence[PromptObject] = (),
    *,
    dimmed: float = DIMMED,
    min_side: int = 0,
    ignored: np.ndarray | None = None,
    numbers: Sequence[int] | None = None,
) -> Image.Image:
    """The RGB image with each mask (boolean N x H x W) outlined in its hue, and what no mask covers dimmed.

    Pixels of a mask keep their colours. Several masks are numbered from 1 up; ``numbers`` gives other numbers, which
    choose the hues too. ``objects``, in pixels of ``image``, are drawn as boxes and points: in the hue of their mask if
    there is one for each, in that of a lone mask without a number, else white. ``dimmed`` goes from 0 (as it is) to 1
    (black); a picture without a mask stays as it is. ``ignored`` (boolean H x W) is hatched. A picture with a shorter
    side below ``min_side`` is enlarged by a whole number first, so that lines stay thin against it.
    """
    scale = max(1, -(-min_side // min(image.size)))
    canvas = np.array(image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST))
    large = [_enlarged(mask, scale) for mask in masks]
    names = list(numbers) if numbers is not None else list(range(1, len(large) + 1))
    line = max(1, round(min(canvas.shape[:2]) / 180))
    if any(mask.any() for mask in large):
        _dim(canvas, ~np.any(large, axis=0), dimmed)
    if ignored is not None:
        _hatch(canvas, _enlarged(ignored, scale), line)
    for mask, name in zip(large, names, strict=True):
        _outline(canvas, mask, colour_of(name - 1), line)
    picture = Image.fromarray(canvas)
    owners = names * len(objects) if len(names) == 1 and numbers is None else names
    own = len(owners) == len(objects)
    for place, item in enumerate(objects):
        _draw_prompt(picture, item.scaled(scale, scale), colour_of(owners[place] - 1) if own else NEUTRAL, line)
    if len(names) > 1 or numbers is not None:
        _write_numbers(picture, large, names)
    return picture


def _enlarged(mask: np.ndarray, scale: int) -> np.ndarray:
    return mask if scale == 1 else mask.repeat(scale, axis=0).repeat(scale, axis=1)


def _dim(canvas: np.ndarray, where: np.ndarray, dimmed: float) -> None:
    grey = cv2.cvtColor(cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    lost = min(1.0, dimmed / DIMMED) * _GREYED  # none where nothing is dimmed
    faded = cv2.addWeighted(canvas, (1 - dimmed) * (1 - lost), grey, (1 - dimmed) * lost, 0)
    cv2.copyTo(faded, where.astype(np.uint8), canvas)


def _hatch(canvas: np.ndarray, where: np.ndarray, line: int) -> None:
    rows, columns = np.indices(where.shape, dtype=np.int32)
    stripes = where & ((rows + columns) % (8 * line) < 2 * line)
    canvas[stripes] = NEUTRAL


def _outline(canvas: np.ndarray, mask: np.ndarray, colour: Colour, line: int) -> None:
    """A line around the mask, outside it, with a dark rim, so that it shows on any background."""
    if not mask.any():
        return
    x1, y1, x2, y2 = (round(value) for value in mask_bounds(mask))
    margin = 2 * line + 2
    part = (slice(max(0, y1 - margin), y2 + margin), slice(max(0, x1 - margin), x2 + margin))
    target = canvas[part]
    away = cv2.distanceTransform((~mask[part]).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    for tone, reach in ((_INK, 2 * line), (colour, line)):
        where = np.nonzero((away > 0) & (away < reach + 0.5))
        amount = np.clip(reach + 0.5 - away[where], 0, 1)[:, None]  # smooth at the outer edge
        target[where] = (target[where] * (1 - amount) + np.array(tone, dtype=np.float32) * amount + 0.5).astype(
            np.uint8
        )


def _draw_prompt(picture: Image.Image, item: PromptObject, colour: Colour, line: int) -> None:
    """The box in thin dashes, as it is what was asked for and not what was found; points as discs."""
    pen = ImageDraw.Draw(picture)
    width, height = picture.size
    if item.box is not None:
        x1, x2 = sorted(_near(x, width, line) for x in item.box[0::2])
        y1, y2 = sorted(_near(y, height, line) for y in item.box[1::2])
        _draw_dashes(pen, (x1, y1, x2, y2), colour, line)
    for x, y in ((_near(x, width, line), _near(y, height, line)) for x, y in item.points):
        for tone, radius in ((_INK, 3.6 * line), (NEUTRAL, 2.8 * line), (colour, 1.8 * line)):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tone)


def _near(value: float, side: int, line: int) -> float:
    """A coordinate; far outside the picture, one just outside it, where nothing shows either."""
    return min(max(value, -8 * line), side + 8 * line)


def _draw_dashes(pen: ImageDraw.ImageDraw, box: Box, colour: Colour, line: int) -> None:
    x1, y1, x2, y2 = (round(value) for value in box)
    pen.rectangle((x1, y1, x2, y2), outline=_INK, width=line)
    step, dash = 8 * line, 5 * line
    for x in range(x1, x2 + 1, step):
        for y in (y1, y2):
            pen.line((x, y, min(x + dash, x2), y), fill=colour, width=line)
    for y in range(y1, y2 + 1, step):
        for x in (x1, x2):
            pen.line((x, y, x, min(y + dash, y2)), fill=colour, width=line)


def _write_numbers(picture: Image.Image, masks: Sequence[np.ndarray], names: Sequence[int]) -> None:
    """Each mask's number on a plate of its hue, at its outline, where no other plate is."""
    size = max(13, round(min(picture.size) / 24))
    font, pen = ImageFont.load_default(size), ImageDraw.Draw(picture)
    taken: list[Box] = []
    for mask, name in zip(masks, names, strict=True):
        text = str(name)
        width, height = max(size * 1.25, font.getlength(text) + size * 0.6), size * 1.25
        places = [_plate(at, (width, height), picture.size) for at in _anchors(mask)]
        if not places:
            continue
        plate = next((place for place in places if not any(_meet(place, other) for other in taken)), places[0])
        taken.append(plate)
        colour = colour_of(name - 1)
        ink = _INK if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 110 else NEUTRAL
        pen.rounded_rectangle(plate, radius=size * 0.3, fill=colour, outline=_INK, width=max(1, size // 12))
        pen.text(((plate[0] + plate[2]) / 2, (plate[1] + plate[3]) / 2), text, ink, font, anchor="mm")


def _anchors(mask: np.ndarray) -> list[tuple[float, float]]:
    """Points (x, y) for a plate: where the mask is highest, most left, most right and lowest."""
    if not mask.any():
        return []
    x1, y1, x2, y2 = (round(value) for value in mask_bounds(mask))
    x2, y2 = x2 - 1, y2 - 1
    top, bottom = (float(np.median(np.flatnonzero(mask[y]))) for y in (y1, y2))
    left, right = (float(np.median(np.flatnonzero(mask[:, x]))) for x in (x1, x2))
    return [(top, y1), (x1, left), (x2, right), (bottom, y2)]


def _plate(at: tuple[float, float], size: tuple[float, float], picture: tuple[int, int]) -> Box:
    """A plate of ``size`` around a point, moved into the picture."""
    left, top = (
        min(max(middle - length / 2, 0.0), max(0.0, whole - 1 - length))
        for middle, length, whole in zip(at, size, picture, strict=True)
    )
    return (left, top, left + size[0], top + size[1])


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def draw_answer(
    image: Image.Image, size: tuple[int, int], answer: Answer, mask: dict[str, Any] | None, spec: PromptSpec
) -> Image.Image:
    """The image at (width, height) with the boxes and points of an answer and a mask (COCO RLE of the image)."""
    objects = [to_image_pixels(item, spec, *size) for item in answer.objects]
    masks = np.zeros((0, size[1], size[0]), dtype=bool)
    if mask is not None:
        masks = resize_mask(decode_mask(mask), size)[None]
    return overlay(image.resize(size, Image.Resampling.LANCZOS), masks, objects)


def mask_image(mask: np.ndarray) -> Image.Image:
    """A boolean H x W mask as an 8-bit picture of 0 and 255."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def cutout(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """The RGB image as RGBA: opaque where the mask (boolean H x W) holds, empty elsewhere."""
    alpha = mask_image(mask)
    picture = Image.composite(image, Image.new("RGB", image.size), alpha)
    picture.putalpha(alpha)
    return picture
