"""The reward function that verl calls (``reward.custom_reward_function``)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

import numpy as np

from seg_zero.data.augmentation import View
from seg_zero.data.ground_truth import seen_mask
from seg_zero.dialogue.memory import Instance
from seg_zero.dialogue.references import Asked
from seg_zero.rewards import Response
from seg_zero.rewards.boxes import iou
from seg_zero.rewards.presets import Term, read_terms
from seg_zero.rewards.text import well_formed
from seg_zero.training.rollout.mask_scorer import MaskQuestion, MaskScore, MaskScorer, MaskScorers
from seg_zero.training.rollout.round_scorer import RoundQuestion, RoundScore, RoundScorer
from seg_zero.training.settings import MaskScorerSettings, from_mapping

HELD_OUT_SAMPLE = "held_out_sample"
ROUND = "round"
log = logging.getLogger(__name__)


@lru_cache
def _terms(settings: str) -> tuple[Term, ...]:
    return read_terms(json.loads(settings))


def _settings(settings: str) -> MaskScorerSettings:
    return from_mapping(MaskScorerSettings.SECTION, json.loads(settings), MaskScorerSettings)


@lru_cache
def _scorers(settings: str) -> MaskScorers[MaskQuestion, MaskScore]:
    return MaskScorers(_settings(settings), MaskScorer)


@lru_cache
def _round_scorers(settings: str) -> MaskScorers[RoundQuestion, RoundScore]:
    return MaskScorers(_settings(settings), RoundScorer)


def terms_of(settings: Any) -> tuple[Term, ...]:
    """The terms of ``reward.terms``, read once."""
    return _terms(_key(settings))


def round_scorers(settings: Any) -> MaskScorers[RoundQuestion, RoundScore]:
    """The actors for rounds of dialogues by ``reward.mask_scorer``, the same for all calls of a process."""
    return _round_scorers(_key(settings))


@lru_cache(maxsize=64)  # the answers to one question share it
def _seen_mask(counts: str, height: int, width: int, view: View, size: tuple[int, int]) -> np.ndarray:
    return seen_mask({"size": [height, width], "counts": counts}, view, size)


def _true_mask(info: Mapping[str, Any]) -> np.ndarray | None:
    rle = info.get("mask")
    if rle is None:
        return None
    width, height = info["image_size"]
    return _seen_mask(rle["counts"], *rle["size"], _view(info), (int(width), int(height)))


def _view(info: Mapping[str, Any]) -> View:
    left, top, right, bottom = (int(v) for v in info["view"]["window"])
    return View((left, top, right, bottom), bool(info["view"]["flipped"]))


def _key(settings: Any) -> str:
    """Settings as text, to be looked up by; OmegaConf's containers included."""
    from omegaconf import OmegaConf

    return json.dumps(OmegaConf.to_container(settings) if OmegaConf.is_config(settings) else settings)


async def _ask_sam2(response: Response, info: Mapping[str, Any], settings: Any) -> MaskScore:
    """SAM2's mask for the response against the true one."""
    if info.get(ROUND):
        asked = round_question(response, info)
        return (await round_scorers(settings).score(asked)).score
    question = MaskQuestion(
        source=info["source"],
        row=int(info["row"]),
        view=_view(info),
        image_size=response.image_size,
        objects=response.answer.objects,
        with_mask=bool(info.get("held_out")),
    )
    return await _scorers(_key(settings)).score(question)


def round_question(response: Response, info: Mapping[str, Any], instances: tuple[Instance, ...] = ()) -> RoundQuestion:
    """What SAM2 is asked about an answered round (:func:`seg_zero.training.dialogue.prompts.round_info`)."""
    view = _view(info)
    (width, height), (seen_width, seen_height) = view.size, response.image_size
    return RoundQuestion(
        image=info["image"],
        row=int(info["row"]),
        truth=dict(info["mask"]),
        objects=tuple(item.scaled(width / seen_width, height / seen_height) for item in response.answer.objects),
        asked=Asked(info["question"], tuple(info["references"]), info["relation"]),
        way=info["way"],
        instances=instances,
        with_mask=bool(info.get("held_out")),
    )


def _held_out_sample(response: Response, info: Mapping[str, Any], mask: MaskScore) -> str:
    """What the validation report needs of a sample, as text, which verl keeps out of its own means."""
    sample = {
        "source": info["source"],
        "row": int(info["row"]),
        "round": int(info.get(ROUND, 0)),
        "well_formed": well_formed(response),
        "failed": mask.problem is not None,
        "counts": asdict(replace(mask.counts, answered=mask.counts.answered and response.answer.problem is None)),
        "mask": mask.mask,
    }
    return json.dumps(sample)


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any],
    terms: Mapping[str, Mapping[str, Any]],
    mask_scorer: Mapping[str, Any],
    **_unused: Any,
) -> dict[str, Any]:
    """Score one response. ``score`` is what GRPO optimises; every other entry becomes a logged curve.

    ground_truth: in pixels of the image that the policy saw, whose (width, height) is ``extra_info["image_size"]``;
    ``extra_info["mask"]`` is COCO RLE of the true mask over the stored image, of which ``extra_info["view"]`` was seen;
    None: unknown. It is decoded only if a term declares that it needs it. terms, mask_scorer: the configuration's
    ``reward.terms`` and ``reward.mask_scorer``. Added for every reward are ``box_iou``, the mean IoU of matched boxes,
    and ``failures``: terms that raised, or masks that SAM2 failed to produce; they score 0 and are logged, and the run
    continues. With ``extra_info["held_out"]`` SAM2 runs whatever the terms, and :data:`HELD_OUT_SAMPLE` holds what
    :mod:`seg_zero.training.trainer.validation` needs. A round of a dialogue says its number as :data:`ROUND`.
    """
    weighted = terms_of(terms)
    response = read_response(solution_str, ground_truth, extra_info, weighted)
    true_objects = response.truth  # raises for an unreadable ground truth, from which nothing could be learnt
    mask: MaskScore | None = None
    held_out = bool(extra_info.get("held_out"))
    if held_out or any(term.needs_mask for term in weighted):
        mask = MaskScore(None)
        if held_out or (response.answer.objects and true_objects):
            mask = await _ask_sam2(response, extra_info, mask_scorer)
    return judge(response, extra_info, weighted, mask, data_source)


def read_response(text: str, ground_truth: str, info: Mapping[str, Any], terms: Sequence[Term]) -> Response:
    """What the terms look at, of a row's ``extra_info``."""
    width, height = info["image_size"]
    return Response(
        text,
        ground_truth,
        (width, height),
        question=info.get("question"),
        kind=info.get("kind") or None,
        true_mask=_true_mask(info) if any(term.needs_true_mask for term in terms) else None,
        referred=tuple(tuple(box) for box in info.get("referred", ())),  # type: ignore[misc]  # four each
    )


def judge(
    response: Response, info: Mapping[str, Any], terms: Sequence[Term], mask: MaskScore | None, data_source: str
) -> dict[str, Any]:
    """The result of :func:`compute_score`. mask: what SAM2 made of the answer, None if it was not asked."""
    result: dict[str, Any] = {}
    failures = 0
    if mask is not None:
        comparable = bool(response.answer.objects and response.truth)
        iou_of_masks = mask.iou if comparable else float(response.rightly_empty)  # the same whether SAM2 was asked
        response = replace(response, mask_iou=iou_of_masks, parsed=response.answer)
        result["mask_iou"] = iou_of_masks or 0.0
        if mask.problem is not None:
            failures += 1
            log.warning("no mask for one sample: %s", mask.problem)
        if info.get("held_out"):
            result[HELD_OUT_SAMPLE] = _held_out_sample(response, info, mask)
    if info.get(ROUND):
        result[ROUND] = str(info[ROUND])  # text, of which verl makes no mean
    total = 0.0
    for term in terms:
        try:
            value = term(response)
        except Exception:
            value, failures = 0.0, failures + 1
            log.warning("term %s counts 0 for one sample of %s", term.name, data_source, exc_info=True)
        result[term.name] = value
        total += term.weight * value
    return {"score": total, **result, "box_iou": iou(response, threshold=None), "failures": float(failures)}
