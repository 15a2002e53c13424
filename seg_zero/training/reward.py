"""The reward function that verl calls (``reward.custom_reward_function``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import rewards
from rewards.terms import Response, iou_soft


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any],
    preset: str,
    weights: Mapping[str, float] | None = None,
    **_: Any,
) -> dict[str, float]:
    """Score one response. ``score`` is what GRPO optimises; every other entry becomes a logged curve.

    ground_truth: in pixels of the image that the policy saw, whose (width, height) is
    ``extra_info["image_size"]``. preset and weights: see :func:`rewards.compute`. ``box_iou``, the IoU
    over matched boxes, is added for every preset, since most presets see it only through a threshold.
    """
    width, height = extra_info["image_size"]
    terms = rewards.compute(preset, solution_str, ground_truth, (width, height), dict(weights) if weights else None)
    total = terms.pop("total")
    return {"score": total, **terms, "box_iou": iou_soft(Response.read(solution_str, ground_truth, (width, height)))}
