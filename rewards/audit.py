"""The reward audit: what bad answers earn, and what right ones lose.

A strategy (:mod:`seg_zero.rewards.attacks`) earns too much if its answer has a mask of IoU below :data:`MIN_IOU` with
the truth and :data:`MOST_EARNED` of the highest reward, on more than :data:`MOST_ROWS` of the rows. Right answers in
any honest style (:mod:`seg_zero.rewards.styles`) must lose nothing, and true objects in bad form something.

No SAM2 runs. A stand-in finds the true pixels inside the true boxes and fills the predicted box outside them; without a
true mask the boxes are taken for the masks. So true boxes have IoU 1, and thin objects are not judged by how little of
their box they fill. Where a strategy moves all true objects, the true mask is moved with them as well, and the smaller
of the two IoU counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from seg_zero.metrics import intersection_union, iou_of
from seg_zero.objects import PromptObject
from seg_zero.rewards.attacks import Attack, Case, attacks, bad_form
from seg_zero.rewards.presets import Term, score
from seg_zero.rewards.response import Response
from seg_zero.rewards.styles import PLAIN, STYLES

MIN_IOU = 0.3
MOST_EARNED = 0.6
MOST_ROWS = 0.01
_NO_LOSS = 1e-6  # of the highest reward


@dataclass
class Earned:
    """What one strategy earned, as fractions of the highest reward, on the rows where its mask IoU is too low.

    largest: on any row. low_rows: how many rows those are; paid_rows: on how many it earned MOST_EARNED.
    """

    largest: float = 0.0
    low_rows: int = 0
    paid_rows: int = 0


@dataclass
class Loss:
    """What one way of writing the truth cost: the largest and the smallest loss, and on how many rows there was one."""

    largest: float = 0.0
    smallest: float = 1.0
    rows: int = 0


@dataclass
class AuditReport:
    """highest: the most that a true answer earned on any row, which all fractions refer to."""

    rows: int
    highest: float
    attacks: dict[str, Earned] = field(default_factory=dict)
    bad_form: dict[str, Loss] = field(default_factory=dict)
    styles: dict[str, Loss] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """What fails the bars, one line each."""
        paid = {name: found.paid_rows / self.rows for name, found in self.attacks.items()}
        found = [
            f"{name}: paid on {fraction:.1%} of the rows" for name, fraction in paid.items() if fraction > MOST_ROWS
        ]
        found += [f"{name}: costs nothing" for name, loss in self.bad_form.items() if loss.largest <= _NO_LOSS]
        return found + [f"{name}: costs {loss.largest:.1%}" for name, loss in self.styles.items() if loss.rows]


def filled(objects: Sequence[PromptObject], size: tuple[int, int]) -> np.ndarray:
    """The pixels in the boxes, corner pixels included: boolean, H x W of an image of (width, height)."""
    width, height = size
    pixels = np.zeros((height, width), dtype=bool)
    for item in objects:
        if item.box is not None:
            x1, y1, x2, y2 = (int(np.clip(v, -1, max(size))) for v in np.floor(item.box))
            pixels[max(y1, 0) : max(y2 + 1, 0), max(x1, 0) : max(x2 + 1, 0)] = True
    return pixels


def moved(mask: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """The mask moved right and down by whole pixels, 0 or more."""
    x, y = round(dx), round(dy)
    height, width = mask.shape
    result = np.zeros_like(mask)
    result[y:, x:] = mask[: max(height - y, 0), : max(width - x, 0)]
    return result


class StandIn:
    """SAM2's stand-in for one case."""

    def __init__(self, case: Case) -> None:
        true_boxes = filled(case.objects, case.size)
        self._size = case.size
        self._truth = true_boxes if case.mask is None else case.mask
        self._findable = self._truth | ~true_boxes

    def iou(self, attack: Attack) -> float:
        """IoU of the mask for an answer with the truth, 1 if both are empty; the smaller one of two if it is moved."""
        found = self._iou(filled(attack.objects, self._size) & self._findable)
        return found if attack.moved is None else min(found, self._iou(moved(self._truth, *attack.moved)))

    def _iou(self, found: np.ndarray) -> float:
        return iou_of(*intersection_union(found, self._truth))


def _total(terms: Sequence[Term], case: Case, text: str, iou: float) -> float:
    seen = Response(text, case.solution, case.size, mask_iou=iou, true_mask=case.mask)
    return score(terms, seen)["total"]


def _add_loss(losses: dict[str, Loss], name: str, lost: float) -> None:
    loss = losses.setdefault(name, Loss())
    loss.largest, loss.smallest = max(loss.largest, lost), min(loss.smallest, lost)
    loss.rows += lost > _NO_LOSS


def audit(terms: Sequence[Term], cases: Iterable[Case]) -> AuditReport:
    """Try every strategy and every style on every case.

    Raises ValueError if there is no case, if the truth earns nothing, or for a truth that the reward cannot read.
    """
    rows = list(cases)
    if not rows:
        raise ValueError("there is no row to audit the reward with")
    plain = [_total(terms, case, STYLES[PLAIN](case), 1.0) for case in rows]
    report = AuditReport(len(rows), max(plain))
    if report.highest <= 0:
        raise ValueError("true answers earn nothing with this reward; it may be for another answer format")
    for case in rows:
        stand_in = StandIn(case)
        for name, attack in attacks(case).items():
            earned = report.attacks.setdefault(name, Earned())
            iou = stand_in.iou(attack)
            if iou < MIN_IOU:
                fraction = _total(terms, case, attack.text, iou) / report.highest
                earned.low_rows += 1
                earned.paid_rows += fraction >= MOST_EARNED
                earned.largest = max(earned.largest, fraction)
        for name, text in bad_form(case).items():
            _add_loss(report.bad_form, name, 1 - _total(terms, case, text, 1.0) / report.highest)
        for name, style in STYLES.items():
            _add_loss(report.styles, name, 1 - _total(terms, case, style(case), 1.0) / report.highest)
    return report
