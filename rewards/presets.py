"""The one call that scores a response, and the presets it knows."""

from __future__ import annotations

from collections.abc import Mapping

from rewards import published_multi, published_single
from rewards.terms import TERMS, Response

# Weights of the default preset. A published preset's terms have weight 1 and cannot be changed.
SEG_ZERO_WEIGHTS: dict[str, float] = {
    "think": 1.0,
    "format": 1.0,
    "iou": 1.0,
    "iou_soft": 1.0,
    "box_l1": 1.0,
    "point": 1.0,
    "non_repeat": 1.0,
}
PRESETS = ("seg", "seg_strict", "vision_reasoner", "seg_zero")


def check_weights(preset: str, weights: Mapping[str, float] | None) -> dict[str, float] | None:
    """The weights to use, or None for a published preset. Raises ValueError for unknown names."""
    if preset not in PRESETS:
        raise ValueError(f"unknown reward preset {preset!r}; choose one of {list(PRESETS)}")
    if preset != "seg_zero":
        if weights:
            raise ValueError(f"reward preset {preset!r} has fixed weights; use 'seg_zero' to weight terms")
        return None
    merged = {**SEG_ZERO_WEIGHTS, **(weights or {})}
    unknown = sorted(set(merged) - set(TERMS))
    if unknown:
        raise ValueError(f"unknown reward terms {unknown}; choose among {list(TERMS)}")
    return merged


def compute(
    preset: str,
    prediction: str,
    ground_truth: str,
    image_size: tuple[float, float],
    weights: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Score one response: every term and ``"total"``, their weighted sum.

    prediction: the policy's text, whatever it is. ground_truth: tag string (single) or JSON string
    (multi), in pixels of the image of ``image_size`` = (width, height) that the policy saw.
    weights: for preset ``seg_zero``, replaces single weights of the default. Raises ValueError for an
    unknown preset or term or an unreadable ground truth, never because of ``prediction``.
    """
    used = check_weights(preset, weights)
    if used is None:
        if preset == "vision_reasoner":
            terms = published_multi.score(prediction, ground_truth)
        else:
            terms = published_single.score(prediction, ground_truth, strict=preset == "seg_strict")
        return {**terms, "total": sum(terms.values())}
    response = Response.read(prediction, ground_truth, image_size)
    terms = {name: TERMS[name](response) for name, weight in used.items() if weight}
    return {**terms, "total": sum(used[name] * value for name, value in terms.items())}
