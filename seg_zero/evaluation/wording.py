"""What reports say in plain words: metrics, outcomes, kinds of question, and why a row scored what it did."""

from __future__ import annotations

from collections.abc import Iterable

from seg_zero.data.rows import Row
from seg_zero.errors import InputError, counted
from seg_zero.evaluation.predictions import Prediction
from seg_zero.metrics import PRECISION_THRESHOLDS

IOU = "IoU: the area that a mask and the true mask share, divided by the area that they cover together"

METRICS = {
    "gIoU": f"mean over the rows of {IOU}; 1 is perfect",
    "cIoU": "all shared pixels divided by all covered pixels, the rows together, so large objects weigh more",
    "box_acc@0.5": "fraction of rows whose boxes match the true ones with a mean IoU above 0.5",
    "box_IoU": "mean IoU of the written boxes and the true ones; a missing or extra box counts 0",
    "points_on_target": "fraction of the written points that lie on the target, of rows with a target",
    "format_rate": "fraction of answers in the requested form",
    "N-acc": "fraction of rows without a target for which nothing was found",
    "T-acc": "fraction of rows with a target for which something was found",
    **{f"Pr@{x}": f"fraction of rows with a target whose IoU is at least {x}" for x in PRECISION_THRESHOLDS},
}

OUTCOME_MEANINGS = {
    "IoU >= 0.5": "the mask is right, or nearly so",
    "IoU 0.1-0.5": "the mask has a part of the target, or much besides",
    "IoU < 0.1": "the mask is on something else",
    "missed": "there is a target, but no pixel was found",
    "rightly empty": "there is no target, and none was found",
    "false alarm": "there is no target, but something was found",
    "unusable": "the answer could not be read, or the row not be segmented; it counts 0",
}

# Apart for all kinds of colour vision: blue and green are right, yellow to brown is wrong.
OUTCOME_COLOURS = {
    "IoU >= 0.5": "#0b5cad",
    "IoU 0.1-0.5": "#8cc3ee",
    "IoU < 0.1": "#f0a03c",
    "missed": "#a3470f",
    "rightly empty": "#12805c",
    "false alarm": "#e8d65a",
    "unusable": "#3d3d46",
}

LINES = "Outline: the mask, everything else dimmed. Dashes and disc: a box and a point."  # in a picture

KINDS = {
    "attr": "by colour and shape",
    "size": "by size",
    "pos": "by position",
    "rel": "by relation to another object",
    "plural": "several objects",
    "none": "nothing matches",
}


def kind_name(kind: str) -> str:
    """A kind of question in words; kinds of other datasets than the synthetic scenes as they are."""
    return KINDS.get(kind, kind) or "no kind"


def by_kind(kinds: Iterable[str]) -> list[str]:
    """Kinds of question in the order of reading: those of the synthetic scenes from simple to odd, then others."""
    known = list(KINDS)
    return sorted(kinds, key=lambda kind: (known.index(kind) if kind in known else len(known), kind))


def true_objects(row: Row) -> int | None:
    """How many objects a row's solution has; None if it cannot be read."""
    try:
        return len(row.objects())
    except InputError:
        return None


def explain(prediction: Prediction, wanted: int | None = None) -> str:
    """Why a row scored what it did, in a sentence or two; ``wanted``: how many objects the solution has, if known."""
    if prediction.failure is not None:
        return f"The row could not be answered: {prediction.failure}."
    if prediction.problem is not None:
        cut = " The text was cut at the limit of tokens." if prediction.truncated else ""
        return f"The answer could not be read, so it counts 0: {prediction.problem}.{cut}"
    named, counts = prediction.named, prediction.counts
    if prediction.no_target:
        if counts.prediction:
            return f"Nothing matches the question, but the answer names {counted(named, 'object')}."
        return (
            "Nothing matches the question, and the answer says so."
            if not named
            else ("Nothing matches the question, and the mask is empty, although the answer names something.")
        )
    if not counts.prediction:
        if not named:
            return "The answer says that nothing matches, but something does."
        return "The segmenter found nothing at the boxes and points of the answer."
    return _fit(prediction) + _objects(named, wanted)


def _fit(prediction: Prediction) -> str:
    counts = prediction.counts
    missed, beside = 1 - counts.intersection / counts.truth, 1 - counts.intersection / counts.prediction
    if prediction.iou < 0.1:
        return "The mask is on something else." if beside > 0.5 else "The mask covers hardly any of the target."
    if missed < 0.1 and beside < 0.1:
        return "The mask fits the target."
    if beside < 0.1:
        return f"The mask misses {percent(missed)} of the target."
    outside = f"{percent(beside)} of the mask"
    if missed < 0.1:
        return f"{outside} lies outside the target."
    return f"The mask misses {percent(missed)} of the target, and {outside} lies outside it."


def _objects(named: int, wanted: int | None) -> str:
    if wanted is None or named == wanted or not wanted:
        return ""
    return (
        f" The answer names {named} of {wanted} objects."
        if named < wanted
        else (f" The answer names {counted(named, 'object')}, but {wanted} {'is' if wanted == 1 else 'are'} meant.")
    )


def shortened(text: str, longest: int = 300) -> str:
    """The start of a text, and that there is more."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def percent(fraction: float) -> str:
    """A fraction as whole percent, its number and sign on one line."""
    return f"{100 * fraction:.0f}\N{NO-BREAK SPACE}%"
