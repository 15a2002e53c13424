"""The reward function that verl calls (``reward.custom_reward_function``)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rewards import Response
from rewards.boxes import iou
from rewards.presets import Term, read_terms
from seg_zero.data.augmentation import View

if TYPE_CHECKING:
    from seg_zero.training.mask_scorer import MaskScorers

log = logging.getLogger(__name__)


@lru_cache
def _terms(settings: str) -> tuple[Term, ...]:
    return read_terms(json.loads(settings))


@lru_cache
def _scorers(settings: str) -> MaskScorers:
    from seg_zero.training.mask_scorer import MaskScorers

    return MaskScorers(**json.loads(settings))


def _key(settings: Any) -> str:
    """Settings as text, to be looked up by; OmegaConf's containers included."""
    from omegaconf import OmegaConf

    return json.dumps(OmegaConf.to_container(settings) if OmegaConf.is_config(settings) else settings)


async def _mask_iou(
    response: Response, info: Mapping[str, Any], scorers: MaskScorers
) -> tuple[float | None, str | None]:
    """SAM2's IoU for the response, or None; and what went wrong, or None."""
    from seg_zero.training.mask_scorer import MaskQuestion

    view = info["view"]
    question = MaskQuestion(
        source=info["source"],
        row=int(info["row"]),
        view=View(tuple(view["window"]), bool(view["flipped"])),
        image_size=response.image_size,
        objects=response.answer.objects,
    )
    score = await scorers.score(question)
    return score.iou, score.problem


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any],
    terms: Mapping[str, Mapping[str, Any]],
    mask_scorer: Mapping[str, Any],
    **_unused: Any,
) -> dict[str, float]:
    """Score one response. ``score`` is what GRPO optimises; every other entry becomes a logged curve.

    ground_truth: in pixels of the image that the policy saw, whose (width, height) is
    ``extra_info["image_size"]``. terms, mask_scorer: the configuration's ``reward.terms`` and
    ``reward.mask_scorer``. Added for every reward are ``box_iou``, the mean IoU of matched boxes, and
    ``failures``: terms that raised, or masks that SAM2 did not give; they count 0, are logged, and the
    run goes on.
    """
    width, height = extra_info["image_size"]
    weighted = _terms(_key(terms))
    response = Response(solution_str, ground_truth, (width, height))
    true_objects = response.truth  # raises for an unreadable ground truth, from which nothing could be learnt
    result: dict[str, float] = {}
    failures = 0
    if any(term.needs_mask for term in weighted):
        mask_iou, problem = None, None
        if response.answer.objects and true_objects:  # an empty answer is judged without SAM2
            mask_iou, problem = await _mask_iou(response, extra_info, _scorers(_key(mask_scorer)))
        response = Response(solution_str, ground_truth, (width, height), mask_iou)
        result["mask_iou"] = mask_iou if mask_iou is not None else float(response.rightly_empty)
        if problem is not None:
            failures += 1
            log.warning("term mask counts 0 for one sample: %s", problem)
    total = 0.0
    for term in weighted:
        try:
            value = term(response)
        except Exception:
            value, failures = 0.0, failures + 1
            log.warning("term %s counts 0 for one sample of %s", term.name, data_source, exc_info=True)
        result[term.name] = value
        total += term.weight * value
    return {"score": total, **result, "box_iou": iou(response, threshold=None), "failures": float(failures)}
