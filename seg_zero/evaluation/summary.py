"""The numbers of an evaluation, with intervals, as a table, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from seg_zero.errors import InputError, counted
from seg_zero.evaluation.predictions import Prediction
from seg_zero.metrics import GRES_FRACTIONS, gres_hits, metrics_for
from seg_zero.statistics import Interval, bootstrap_interval, bootstrap_ratio_interval

OUTCOMES = ("IoU >= 0.5", "IoU 0.1-0.5", "IoU < 0.1", "missed", "rightly empty", "false alarm", "unusable")


def outcome(prediction: Prediction) -> str:
    """The outcome of a row, one of OUTCOMES. Missed: a target but no pixel; false alarm: pixels but no target."""
    found = prediction.counts.prediction > 0
    if prediction.unusable:
        return "unusable"
    if prediction.no_target:
        return "false alarm" if found else "rightly empty"
    if not found:
        return "missed"
    return "IoU >= 0.5" if prediction.iou >= 0.5 else "IoU 0.1-0.5" if prediction.iou >= 0.1 else "IoU < 0.1"


@dataclass(frozen=True)
class Summary:
    """Numbers of one evaluation; equal runs give equal numbers.

    rows: of the dataset, the denominator of every fraction; metrics: values (0..1) with their 95 % intervals; kinds:
    per kind of question its rows, gIoU and how many rows had each outcome; unparsable: answers that could not be read;
    failures: rows that could not be read, asked or segmented; truncated: texts that ended at the limit; warning: why
    the policy answered worse than it could, if so.
    """

    rule: str
    rows: int
    metrics: dict[str, Interval]
    kinds: dict[str, dict[str, Any]]
    unparsable: int
    failures: int
    nothing_named: int
    truncated: int
    tokens: int
    settings: dict[str, Any] = field(default_factory=dict)
    warning: str | None = None

    def record(self) -> dict[str, Any]:
        """As JSON."""
        values = asdict(self)
        values["metrics"] = {name: interval._asdict() for name, interval in self.metrics.items()}
        if self.warning is None:
            del values["warning"]
        return values

    def counts_line(self) -> str:
        return (
            f"{counted(self.rows, 'row')} evaluated, {self.unparsable} unparsable, {self.failures} failed, "
            f"{self.nothing_named} answered with no object, {self.truncated} cut at the limit; "
            f"{counted(self.tokens, 'token')}"
        )

    def table(self) -> str:
        """For the terminal."""
        lines = [f"{'metric':<24}{'value':>8}   95 % interval"]
        lines += [f"{name:<24}{i.value:>8.4f}   {i.low:.4f} to {i.high:.4f}" for name, i in self.metrics.items()]
        if len(self.kinds) > 1:
            lines += [
                f"{'gIoU, ' + (kind or 'no kind'):<24}{values['gIoU']:>8.4f}   {counted(values['rows'], 'row')}"
                for kind, values in self.kinds.items()
            ]
        return "\n".join([*lines, self.counts_line()])

    def markdown(self, extra: Sequence[str] = ()) -> str:
        """For a report; ``extra`` are lines about this run, such as its time."""
        lines = ["| metric | value | 95 % interval |", "|---|---|---|"]
        lines += [f"| {name} | {i.value:.4f} | {i.low:.4f} to {i.high:.4f} |" for name, i in self.metrics.items()]
        warning = [] if self.warning is None else [f"Warning: {self.warning}."]
        lines += ["", f"Rule `{self.rule}`. {self.counts_line()}.", *warning, *extra]
        shown = [name for name in OUTCOMES if any(values["outcomes"].get(name) for values in self.kinds.values())]
        lines += ["", f"| kind | rows | gIoU | {' | '.join(shown)} |", "|---" * (3 + len(shown)) + "|"]
        for kind, values in self.kinds.items():
            counts = " | ".join(str(values["outcomes"].get(name, 0)) for name in shown)
            lines.append(f"| {kind or '(none)'} | {values['rows']} | {values['gIoU']:.4f} | {counts} |")
        return "\n".join(lines) + "\n"


def summarise(predictions: Sequence[Prediction], rule: str = "lisa", settings: dict[str, Any] | None = None) -> Summary:
    """Metrics of all rows of a dataset by a rule of :mod:`seg_zero.metrics`. Raises InputError without rows."""
    if not predictions:
        raise InputError("the evaluation has no rows; check the dataset")
    scored = metrics_for(rule)
    ious: dict[int, float] = {}  # by row, of the rows that the rule counts
    areas: list[tuple[int, int]] = []
    for prediction in predictions:
        before = scored.intersection, scored.union
        counts = prediction.counts_for(rule)
        iou = None if counts is None else scored.add_counts(counts)
        if iou is not None:
            ious[prediction.row] = iou
            areas.append((scored.intersection - before[0], scored.union - before[1]))
    if not ious:
        raise InputError(f"all {len(predictions)} rows failed and rule {rule!r} skips such; use rule 'lisa'")
    values = scored.result()
    intersections, unions = np.array(areas, dtype=np.float64).T
    metrics = {
        "gIoU": _interval(values["gIoU"], bootstrap_interval, np.array(list(ious.values()))),
        "cIoU": _interval(values["cIoU"], bootstrap_ratio_interval, intersections, unions),
    }
    for name, fraction in _fractions(predictions, rule).items():
        if len(fraction):
            metrics[name] = _interval(float(np.mean(fraction)), bootstrap_interval, fraction)
    kinds: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        kinds.setdefault(prediction.kind, []).append(prediction)
    return Summary(
        rule=rule,
        rows=len(predictions),
        metrics=metrics,
        kinds={
            kind: {
                "rows": len(some),
                "gIoU": float(np.mean([ious[p.row] for p in some if p.row in ious] or [0.0])),
                "outcomes": {name: sum(outcome(p) == name for p in some) for name in OUTCOMES},
            }
            for kind, some in sorted(kinds.items())
        },
        unparsable=sum(p.problem is not None for p in predictions),
        failures=sum(p.failure is not None for p in predictions),
        nothing_named=sum(not p.unusable and p.named == 0 for p in predictions),
        truncated=sum(p.truncated for p in predictions),
        tokens=sum(p.tokens for p in predictions),
        settings=settings or {},
    )


def _fractions(predictions: Sequence[Prediction], rule: str) -> dict[str, list[float]]:
    """Metrics that are means over rows: of all rows, or of those with or without a target."""
    target = [p for p in predictions if not p.no_target]
    fractions = {
        "box_acc@0.5": [float(p.box_iou > 0.5) for p in predictions],
        "box_IoU": [p.box_iou for p in predictions],
        "points_on_target": [p.on_target / p.points if p.points else 0.0 for p in target],
        "format_rate": [float(p.well_formed) for p in predictions],
    }
    if rule == "gres":
        hits = [gres_hits(counts) for p in predictions if (counts := p.counts_for(rule)) is not None]
        fractions |= {name: [float(row[name]) for row in hits if name in row] for name in GRES_FRACTIONS}
    return fractions


def _interval(value: float, method: Any, *arrays: Any) -> Interval:
    """The value with its interval; one row has none, so the value itself."""
    if len(arrays[0]) < 2:
        return Interval(value, value, value)
    found = method(*arrays)
    return Interval(value, found.low, found.high)
