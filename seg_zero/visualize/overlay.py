"""Pictures of answers: overlays with masks, boxes and points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation

from seg_zero.answer import Answer
from seg_zero.masks import decode_mask, resize_mask
from seg_zero.objects import PromptObject
from seg_zero.prompting import PromptSpec, to_image_pixels

MASK_COLOURS = ((255, 64, 129), (0, 200, 255), (255, 196, 0), (124, 230, 60), (190, 120, 255))
BOX_COLOUR = (255, 255, 255)
POINT_COLOUR = (255, 40, 40)


def overlay(
    image: Image.Image,
    masks: np.ndarray,
    objects: Sequence[PromptObject] = (),
    opacity: float = 0.4,
    min_side: int = 0,
) -> Image.Image:
    """The RGB image with each mask (boolean N x H x W) tinted and outlined, boxes and points drawn on top.

    ``objects`` are in pixels of ``image``. If the shorter side is below ``min_side`` the picture is
    enlarged first, so that lines stay thin against a small image.
    """
    scale = max(1, -(-min_side // min(image.size)))
    canvas = np.asarray(image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST))
    canvas = canvas.astype(np.float32)
    line = max(1, round(min(image.size) * scale / 200))
    for index, small in enumerate(masks):
        mask = small.repeat(scale, axis=0).repeat(scale, axis=1)
        tint = np.array(MASK_COLOURS[index % len(MASK_COLOURS)], dtype=np.float32)
        canvas[mask] = canvas[mask] * (1 - opacity) + tint * opacity
        canvas[binary_dilation(mask, iterations=line) & ~mask] = tint
    picture = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for item in (o.scaled(scale, scale) for o in objects):
        if item.box is not None:
            x1, y1, x2, y2 = item.box
            box = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
            rim = (box[0] - line, box[1] - line, box[2] + line, box[3] + line)  # dark, to show on white too
            draw.rectangle(rim, outline=(0, 0, 0), width=3 * line)
            draw.rectangle(box, outline=BOX_COLOUR, width=line)
        for x, y in item.points:
            r = 2.5 * line
            draw.ellipse((x - r, y - r, x + r, y + r), fill=POINT_COLOUR, outline=(255, 255, 255), width=line)
    return picture


def draw_answer(
    image: Image.Image, size: tuple[int, int], answer: Answer, mask: dict[str, Any] | None, spec: PromptSpec
) -> Image.Image:
    """The image at (width, height) with the boxes and points of an answer and a mask (COCO RLE of the image)."""
    objects = [to_image_pixels(item, spec, *size) for item in answer.objects]
    masks = np.zeros((0, size[1], size[0]), dtype=bool)
    if mask is not None:
        masks = resize_mask(decode_mask(mask), size)[None]
    return overlay(image.resize(size, Image.Resampling.LANCZOS), masks, objects, opacity=0.25)


def mask_image(mask: np.ndarray) -> Image.Image:
    """A boolean H x W mask as an 8-bit picture of 0 and 255."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def cutout(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """The RGB image as RGBA: opaque where the mask (boolean H x W) holds, empty elsewhere."""
    alpha = mask_image(mask)
    picture = Image.composite(image, Image.new("RGB", image.size), alpha)
    picture.putalpha(alpha)
    return picture
