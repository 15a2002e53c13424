"""Ground truth as a reward compares it: text in the answer format of a prompt template, and the mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seg_zero.answer import write_solution_multi, write_solution_single
from seg_zero.data.augmentation import View
from seg_zero.errors import InputError
from seg_zero.masks import decode_mask, resize_mask
from seg_zero.objects import PromptObject
from seg_zero.prompting import PromptSpec


def ground_truth(objects: Sequence[PromptObject], spec: PromptSpec) -> str:
    """The objects in the published format of the template, coordinates rounded.

    Raises ValueError if they do not fit the template: a multi-object one needs a box and a point per object, a
    single-object one exactly one object with a box and two points.
    """
    if spec.multi:
        return write_solution_multi(objects)
    if len(objects) != 1:
        raise ValueError(f"a single-object prompt needs one object, the solution has {len(objects)}")
    return write_solution_single(objects[0])


def seen_mask(rle: dict[str, Any], view: View, size: tuple[int, int]) -> np.ndarray:
    """A row's mask (COCO RLE) as the policy sees it, boolean, stretched to ``size`` = (width, height).

    Raises InputError if it is unreadable.
    """
    try:
        mask = decode_mask(rle)
    except ValueError as error:
        raise InputError(f"the mask is unreadable: {error}; run `seg-zero data check`") from error
    return resize_mask(view.mask(mask), size)
