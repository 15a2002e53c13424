"""Ground truth as a reward compares it: text in the answer format of a prompt template, and the mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seg_zero.answer import write_solution_multi, write_solution_single
from seg_zero.data.augmentation import View
from seg_zero.data.rows import Row
from seg_zero.errors import InputError
from seg_zero.masks import decode_mask, encode_mask, resize_mask
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


def seen_mask(row: Row, spec: PromptSpec, view: View) -> dict[str, Any] | None:
    """COCO RLE of the row's mask as the policy sees it, square; None if the row has none.

    Raises InputError that names the row if its mask is unreadable.
    """
    if row.mask is None:
        return None
    try:
        mask = decode_mask(row.mask)
    except ValueError as error:
        raise InputError(f"row {row.id!r}: its mask is unreadable: {error}; run `seg-zero data check`") from error
    return encode_mask(resize_mask(view.mask(mask), (spec.image_size, spec.image_size)))
