"""Pictures of answers."""

from seg_zero.visualize.overlay import (
    BOX_COLOUR,
    MASK_COLOURS,
    POINT_COLOUR,
    cutout,
    draw_answer,
    mask_image,
    overlay,
)

__all__ = ["BOX_COLOUR", "MASK_COLOURS", "POINT_COLOUR", "cutout", "draw_answer", "mask_image", "overlay"]
