"""Pictures of answers."""

from seg_zero.visualize.overlay import (
    DIMMED,
    OBJECT_COLOURS,
    colour_of,
    cutout,
    draw_answer,
    mask_image,
    overlay,
)

__all__ = ["DIMMED", "OBJECT_COLOURS", "colour_of", "cutout", "draw_answer", "mask_image", "overlay"]
