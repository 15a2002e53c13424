"""Ground-truth text in the answer format of a prompt template."""

from __future__ import annotations

from collections.abc import Sequence

from seg_zero.answer import write_solution_multi, write_solution_single
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
