"""Evaluation: dataset rows to predictions, a table and a report.

Every row counts. An answer that cannot be read, or a segmentation without a pixel, is an empty mask;
on a row that has a target its IoU is 0. Failures are counted and printed, never dropped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rewards import Response
from rewards.boxes import iou
from rewards.text import well_formed
from seg_zero.answer import write_solution_multi
from seg_zero.data.masks import encode_mask
from seg_zero.data.rows import Row
from seg_zero.errors import InputError
from seg_zero.files import write_json, write_text
from seg_zero.metrics import MaskMetrics
from seg_zero.pipeline import ReasoningSegmenter, SegmentationResult
from seg_zero.prompting import to_policy_pixels


@dataclass(frozen=True)
class Prediction:
    """One evaluated row; ``mask`` is COCO RLE, ``box_iou`` the mean over matched objects."""

    id: str
    question: str
    kind: str
    text: str
    problem: str | None
    well_formed: bool
    objects: int
    iou: float
    box_iou: float
    mask: dict[str, Any]


@dataclass
class Report:
    """Numbers of one run. ``metrics`` holds shares in 0..1; ``by_kind`` gIoU per kind of question."""

    rows: int
    metrics: dict[str, float]
    by_kind: dict[str, float]
    unparsable: int
    empty_answers: int
    seconds: float
    model: str = ""
    data: str = ""
    ious: list[float] = field(default_factory=list, repr=False)

    def table(self) -> str:
        lines = [f"{'metric':<22}{'value':>10}"]
        lines += [f"{name:<22}{value:>10.4f}" for name, value in self.metrics.items()]
        lines += [f"{'gIoU, ' + kind:<22}{value:>10.4f}" for kind, value in self.by_kind.items()]
        lines.append(
            f"{self.rows} rows, {self.unparsable} unparsable, {self.empty_answers} empty answers, {self.seconds:.1f} s"
        )
        return "\n".join(lines)


def judge(row: Row, result: SegmentationResult, segmenter: ReasoningSegmenter, metrics: MaskMetrics) -> Prediction:
    """Compare one answer with its row and add it to ``metrics``."""
    truth = row.truth()
    if truth is None:
        raise InputError(f"row {row.id!r} has no mask; evaluation needs the column 'mask'")
    spec = segmenter.policy.spec
    height, width = truth.shape
    true_objects = [to_policy_pixels(item, spec, width, height) for item in row.objects()]
    response = Response(result.text, write_solution_multi(true_objects), (spec.answer_side, spec.answer_side))
    return Prediction(
        id=row.id,
        question=row.problem,
        kind=row.kind,
        text=result.text,
        problem=result.problem,
        well_formed=well_formed(response),
        objects=len(result.objects),
        iou=metrics.add(result.mask, truth),
        box_iou=iou(response, threshold=None),
        mask=encode_mask(result.mask),
    )


def evaluate(
    segmenter: ReasoningSegmenter,
    rows: Sequence[Row],
    batch_size: int = 32,
    progress: Callable[[int, int, float], None] | None = None,
) -> tuple[Report, list[Prediction]]:
    """Answer every row and score it; ``progress`` is told (rows done, rows, gIoU so far)."""
    if not rows:
        raise InputError("the evaluation set has no rows; check the data file")
    start = time.perf_counter()
    metrics = MaskMetrics()
    predictions: list[Prediction] = []
    for first in range(0, len(rows), batch_size):
        batch = rows[first : first + batch_size]
        results = segmenter.batch([row.image() for row in batch], [row.problem for row in batch])
        predictions += [judge(row, result, segmenter, metrics) for row, result in zip(batch, results, strict=True)]
        if progress is not None:
            progress(len(predictions), len(rows), metrics.giou)
    return summarise(predictions, metrics, time.perf_counter() - start), predictions


def summarise(predictions: Sequence[Prediction], metrics: MaskMetrics, seconds: float) -> Report:
    kinds = sorted({p.kind for p in predictions if p.kind})
    box = np.array([p.box_iou for p in predictions])
    return Report(
        rows=len(predictions),
        metrics={
            "gIoU": metrics.giou,
            "cIoU": metrics.ciou,
            "box_IoU": float(box.mean()),
            "box_acc@0.5": float((box > 0.5).mean()),
            "format_rate": float(np.mean([p.well_formed for p in predictions])),
        },
        by_kind={kind: float(np.mean([p.iou for p in predictions if p.kind == kind])) for kind in kinds},
        unparsable=sum(p.problem is not None for p in predictions),
        empty_answers=sum(p.problem is None and p.objects == 0 for p in predictions),
        seconds=seconds,
        ious=[p.iou for p in predictions],
    )


def write_evaluation(folder: Path, report: Report, predictions: Sequence[Prediction]) -> None:
    """Write ``predictions.jsonl`` (one row each, with raw text and mask) and ``report.json``."""
    lines = (json.dumps(asdict(p), ensure_ascii=False) for p in predictions)
    write_text(folder / "predictions.jsonl", "\n".join(lines) + "\n")
    write_json(folder / "report.json", asdict(report))


def paired_gain(before: Sequence[float], after: Sequence[float], resamples: int = 10_000) -> tuple[float, float, float]:
    """Mean gain over the same rows with its 95 % bootstrap interval (low, high); seeded."""
    difference = np.asarray(after) - np.asarray(before)
    rng = np.random.default_rng(0)
    means = difference[rng.integers(len(difference), size=(resamples, len(difference)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(difference.mean()), float(low), float(high)
