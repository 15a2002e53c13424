"""Relations between the things of a picture, by the boxes of their masks, with margins: yes, no, or too close to call.

A question may only be asked if its relation is clear for every thing that it could mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import numpy as np

from seg_zero.masks import decode_mask, encode_mask, mask_bounds
from seg_zero.objects import Box, box_iou

YES, NO, UNCLEAR = "yes", "no", "unclear"
PLAIN, OTHER, PART, BETWEEN = "", "other", "part of", "between"
SIBLING, WHOLE = "same whole as", "whole of"  # another part of the same thing; the thing that a part belongs to
MAX_OVERLAP = 0.1  # IoU of boxes of which one can be left of the other


@dataclass(frozen=True, eq=False)
class Thing:
    """Something in a picture. words: adjectives, and last the noun; mask: boolean H x W; part_of: the number of the
    thing that it is a part of, among those of the picture."""

    words: tuple[str, ...]
    mask: np.ndarray
    part_of: int | None = None

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Thing:
        """What :meth:`record` wrote. Raises ValueError for run lengths that do not fill the mask."""
        return cls(tuple(record["words"]), decode_mask(record["mask"]), record["part_of"])

    def record(self) -> dict[str, Any]:
        """As JSON types, the mask as COCO RLE."""
        return {"words": list(self.words), "mask": encode_mask(self.mask), "part_of": self.part_of}

    @cached_property
    def box(self) -> Box:
        return mask_bounds(self.mask)

    @property
    def noun(self) -> str:
        return self.words[-1]


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _beyond(axis: int, sign: int) -> Callable[[Box, Box], str]:
    """Whether the first box lies beyond the second along an axis: its centre is off by more than half of the smaller
    extent, and the boxes hardly overlap. Not at all, if its centre is on the other side."""

    def holds(one: Box, other: Box) -> str:
        offset = sign * (_centre(one)[axis] - _centre(other)[axis])
        if offset <= 0:
            return NO
        smaller = min(one[axis + 2] - one[axis], other[axis + 2] - other[axis])
        return YES if offset > smaller / 2 and box_iou(one, other) <= MAX_OVERLAP else UNCLEAR

    return holds


def _next_to(one: Box, other: Box) -> str:
    """The gap between the boxes is below half of the smallest side; not, if it is above that side."""
    gap = np.hypot(max(one[0] - other[2], other[0] - one[2], 0.0), max(one[1] - other[3], other[1] - one[3], 0.0))
    side = min(length for box in (one, other) for length in (box[2] - box[0], box[3] - box[1]))
    return YES if gap < side / 2 else NO if gap > side else UNCLEAR


POSITIONS: dict[str, Callable[[Box, Box], str]] = {
    "left of": _beyond(0, -1),
    "right of": _beyond(0, 1),
    "above": _beyond(1, -1),
    "below": _beyond(1, 1),
    "next to": _next_to,
}


def _between(one: Box, first: Box, second: Box) -> str:
    """The centre lies near the middle of the line between the two centres."""
    start, end, middle = (np.array(_centre(box)) for box in (first, second, one))
    line = end - start
    length = float(np.hypot(*line))
    if not length:
        return NO
    along = float((middle - start) @ line) / length**2
    aside = abs(float(line[0] * (middle - start)[1] - line[1] * (middle - start)[0])) / length**2
    if 0.25 <= along <= 0.75 and aside <= 0.2:
        return YES
    return NO if not 0.1 <= along <= 0.9 or aside >= 0.4 else UNCLEAR


def matching(things: Sequence[Thing], words: Sequence[str]) -> list[int]:
    """The things that all of these words describe."""
    return [number for number, thing in enumerate(things) if set(words) <= set(thing.words)]


def relates(things: Sequence[Thing], relation: str, target: int, references: Sequence[int]) -> str:
    """Whether a thing stands in a relation to others, by their numbers. Raises ValueError for an unknown relation."""
    if target in references:
        return NO
    if relation in (PLAIN, OTHER):
        return YES
    boxes = [things[number].box for number in references]
    whole = things[target].part_of
    if relation == PART:
        return YES if whole == references[0] else NO
    if relation == SIBLING:
        return YES if whole is not None and whole == things[references[0]].part_of else NO
    if relation == WHOLE:
        return YES if things[references[0]].part_of == target else NO
    if whole is not None and whole in references:  # where a part lies towards its whole is not asked
        return NO
    if relation == BETWEEN:
        return _between(things[target].box, boxes[0], boxes[1])
    if relation not in POSITIONS:
        known = ", ".join((*POSITIONS, OTHER, PART, SIBLING, WHOLE, BETWEEN))
        raise ValueError(f"there is no relation {relation!r}; there are {known}")
    return POSITIONS[relation](things[target].box, boxes[0])


class Meanings:
    """What descriptions mean among the things of a picture. How two things lie is worked out once, whatever they are
    called: there are many more descriptions than relations between things."""

    def __init__(self, things: Sequence[Thing]) -> None:
        self.things = things
        self.matching = cache(lambda words: matching(things, words))
        self._relates = cache(partial(relates, things))

    def meant(self, words: tuple[str, ...], relation: str, references: tuple[int, ...]) -> int | None:
        """The one thing that a description means, by going through all; None if there is none, several or a doubt."""
        answers = [(number, self._relates(relation, number, references)) for number in self.matching(words)]
        clear = [number for number, answer in answers if answer == YES]
        return clear[0] if len(clear) == 1 and all(answer != UNCLEAR for _, answer in answers) else None


def meant(things: Sequence[Thing], words: Sequence[str], relation: str, references: Sequence[int]) -> int | None:
    """As :meth:`Meanings.meant`, for one description."""
    return Meanings(things).meant(tuple(words), relation, tuple(references))
