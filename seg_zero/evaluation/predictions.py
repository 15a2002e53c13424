"""One evaluated row: the policy's text, the resulting mask, and its comparison with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from seg_zero.answer import Answer, write_solution_multi
from seg_zero.data.rows import Row
from seg_zero.masks import encode_mask
from seg_zero.metrics import MaskCounts, count_pixels, iou_of
from seg_zero.objects import PromptObject
from seg_zero.policy import Reply
from seg_zero.prompting import PromptSpec, to_policy_pixels
from seg_zero.rewards import Response
from seg_zero.rewards.boxes import iou as box_iou_of
from seg_zero.rewards.text import well_formed
from seg_zero.votes import fuse

PART_ROWS = 32  # rows that are answered and stored together


@dataclass(frozen=True)
class Prediction:
    """One row of an evaluation; every row of the dataset has one.

    row: its number in the dataset; texts: the answers, ``chosen`` the number of the one that is shown and whose box
    counts (with one answer 0); objects: of each text, boxes and points in pixels of the row's image; mask: COCO RLE,
    None if there is none; problem: why the chosen text holds no answer; failure: why the row could not be
    answered or segmented; counts: pixels of mask and truth; box_iou: mean over the matched objects of the chosen
    text; points: how many points it gave, on_target: how many of them lie on the truth; tokens: written by the
    policy, all texts together; seconds: time in the stages, the only field that differs between equal runs.
    """

    row: int
    id: str
    question: str
    kind: str
    texts: tuple[str, ...] = ()
    chosen: int = 0
    objects: tuple[tuple[dict[str, Any], ...], ...] = ()
    mask: dict[str, Any] | None = None
    problem: str | None = None
    failure: str | None = None
    well_formed: bool = False
    truncated: bool = False
    tokens: int = 0
    counts: MaskCounts = field(default_factory=MaskCounts)
    box_iou: float = 0.0
    points: int = 0
    on_target: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def unusable(self) -> bool:
        """No answer was read, or it could not be segmented: scores 0 whatever the truth is."""
        return self.problem is not None or self.failure is not None

    @property
    def iou(self) -> float:
        """By LISA's rules; 0 for an unusable row, also if its truth is empty."""
        return 0.0 if self.unusable else iou_of(self.counts.intersection, self.counts.union)

    def counts_for(self, rule: str) -> MaskCounts | None:
        """What :mod:`seg_zero.metrics` scores; None for a failed row under ``seg_zero``, which skips it."""
        if rule == "seg_zero":
            return None if self.failure else self.counts
        return replace(self.counts, answered=not self.unusable)

    @property
    def no_target(self) -> bool:
        return self.counts.truth == 0

    @property
    def named(self) -> int:
        """Number of objects that the chosen text names."""
        return len(self.objects[self.chosen]) if self.objects else 0

    @property
    def text(self) -> str:
        return self.texts[self.chosen] if self.texts else ""

    def record(self) -> dict[str, Any]:
        """As JSON, with the IoU for readers and without ``seconds``."""
        values = asdict(self)
        values.pop("seconds")
        return {**values, "iou": self.iou}

    @classmethod
    def of_record(cls, record: dict[str, Any], seconds: dict[str, float] | None = None) -> Prediction:
        """The inverse of :meth:`record`. Raises TypeError or KeyError for anything else."""
        values = {key: value for key, value in record.items() if key != "iou"}
        values["texts"] = tuple(values["texts"])
        values["objects"] = tuple(tuple(some) for some in values["objects"])
        values["counts"] = MaskCounts(**values["counts"])
        return cls(**values, seconds=seconds or {})


def failed(
    number: int, row: Row | None, truth: np.ndarray | None, failure: str, seconds: dict[str, float]
) -> Prediction:
    """The prediction of a row that could not be answered or segmented."""
    counts = MaskCounts() if truth is None else count_pixels(np.zeros(truth.shape, dtype=bool), truth)
    names = (f"row {number}", "", "") if row is None else (row.id, row.problem, row.kind)
    return Prediction(number, *names, failure=failure, counts=counts, seconds=seconds)


def judge(
    number: int,
    row: Row,
    truth: np.ndarray,
    reply: Reply,
    read: Sequence[tuple[Answer, tuple[PromptObject, ...]]],
    masks: Sequence[np.ndarray],
    spec: PromptSpec,
    seconds: dict[str, float],
) -> Prediction:
    """Compare the answers to a row with its truth.

    read: of each text the answer, and its objects in pixels of the row's image. masks: of each text, boolean H x W.
    """
    height, width = truth.shape
    fused, chosen = fuse(masks)
    true_objects = [to_policy_pixels(item, spec, width, height) for item in row.objects()]
    response = Response(
        reply.texts[chosen],
        write_solution_multi(true_objects),
        (spec.answer_side, spec.answer_side),
        question=row.problem,
        kind=row.kind or None,
        parsed=read[chosen][0],
    )
    points = [point for item in read[chosen][1] for point in item.points]
    hits = sum(0 <= x < width and 0 <= y < height and bool(truth[int(y), int(x)] == 1) for x, y in points)
    return Prediction(
        row=number,
        id=row.id,
        question=row.problem,
        kind=row.kind,
        texts=reply.texts,
        chosen=chosen,
        objects=tuple(tuple({"box": o.box, "points": o.points} for o in some) for _, some in read),
        mask=encode_mask(fused),
        problem=read[chosen][0].problem,
        well_formed=well_formed(response),
        truncated=reply.truncated,
        tokens=reply.tokens,
        counts=count_pixels(fused, truth),
        box_iou=box_iou_of(response, threshold=None),
        points=len(points),
        on_target=hits,
        seconds=seconds,
    )
