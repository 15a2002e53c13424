"""Whether the reasoning about a round of a dialogue names the objects that the question refers to, and no others."""

from __future__ import annotations

import re

from seg_zero.objects import Box
from seg_zero.rewards.response import Response

_NUMBER = r"-?\d+(?:\.\d+)?"
_BOX = re.compile(rf"[\[(]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[\])]")
_OFF = 1.0  # how far a coordinate may be off, since prompts round them


def citation(response: Response) -> float:
    """The fraction of the objects referred to whose box the reasoning names, times the fraction of its boxes that are
    theirs or the answer's own. Each is 1 where there is nothing to name or nothing is named.

    So naming every box of the prompt earns as little as inventing some. The terms of RegionReasoner (arXiv 2602.03733)
    are 1 for any mention plus the fraction of boxes that stand in the question, halved if one is invented.
    """
    named = cited_boxes(response.reasoning)
    wanted = response.referred
    own = [item.box for item in response.answer.objects if item.box is not None]
    found = sum(any(_same(box, one) for one in named) for box in wanted) / len(wanted) if wanted else 1.0
    meant = sum(any(_same(box, one) for one in (*wanted, *own)) for box in named) / len(named) if named else 1.0
    return found * meant


def cited_boxes(text: str) -> list[Box]:
    """The boxes that a text names, as four numbers in brackets."""
    return [(float(m[1]), float(m[2]), float(m[3]), float(m[4])) for m in _BOX.finditer(text)]


def _same(box: Box, other: Box) -> bool:
    return all(abs(a - b) <= _OFF for a, b in zip(box, other, strict=True))
