"""What a reward term needs beyond the text and the ground truth, declared where the term is defined."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

# mask: SAM2 segments the answer before the term is called, and ``Response.mask_iou`` holds the IoU.
# true_mask: ``Response.true_mask`` holds the true pixels of a row that has a mask; training reads no others.
NEEDS = ("mask", "true_mask")

Function = TypeVar("Function", bound=Callable[..., float])


def needs(*names: str) -> Callable[[Function], Function]:
    """Declare what a term needs; ``names`` are of :data:`NEEDS`, others raise ValueError.

    >>> @needs("mask")
    ... def good_mask(response: Response) -> float:
    ...     return float((response.mask_iou or 0.0) > 0.8)
    """
    unknown = sorted(set(names) - set(NEEDS))
    if unknown:
        raise ValueError(f"a reward term cannot need {', '.join(map(repr, unknown))}; it can need {', '.join(NEEDS)}")

    def declare(function: Function) -> Function:
        function.needs = frozenset(names)  # type: ignore[attr-defined]
        return function

    return declare


def needed_by(function: Callable[..., float]) -> frozenset[str]:
    """What a term has declared; nothing if it has declared nothing."""
    found: frozenset[str] = getattr(function, "needs", frozenset())
    return found
