"""Two evaluations over the same rows: what changed, where, and whether it is significant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_zero.errors import InputError, counted
from seg_zero.evaluation.predictions import Prediction
from seg_zero.evaluation.store import MANIFEST, read_predictions
from seg_zero.files import read_json
from seg_zero.statistics import PairedDifference, paired_difference

CHANGED_ROWS = 10


@dataclass(frozen=True)
class Comparison:
    """Mean differences (second minus first) over the rows of both, by metric and by kind of question.

    changed: the rows whose IoU changed most, with both predictions.
    """

    rows: int
    before: dict[str, float]
    after: dict[str, float]
    differences: dict[str, PairedDifference]
    changed: list[tuple[Prediction, Prediction]]
    other_settings: dict[str, tuple[Any, Any]]

    def table(self) -> str:
        lines = [f"{'metric':<24}{'A':>8}{'B':>8}{'B - A':>9}   {'95 % interval':<20}{'p':>7}"]
        for name, d in self.differences.items():
            interval = f"{d.low:+.4f} to {d.high:+.4f}"
            lines.append(
                f"{name:<24}{self.before[name]:>8.4f}{self.after[name]:>8.4f}{d.mean:>+9.4f}   {interval:<20}"
                f"{d.p_value:>7.4f}"
            )
        lines.append(f"{counted(self.rows, 'row')}, paired; p: how often chance alone would give as large a difference")
        if self.other_settings:
            lines.append("different settings:")
            lines += [f"  {name}: {a!r} -> {b!r}" for name, (a, b) in self.other_settings.items()]
        if self.changed:
            lines.append("rows that changed most:")
            lines += [f"  {one.iou:.3f} -> {two.iou:.3f}  {one.id}  {one.question!r}" for one, two in self.changed]
        return "\n".join(lines)


def compare(first: Path, second: Path) -> Comparison:
    """Compare two finished evaluations. Raises InputError if they are not over the same rows."""
    before, after = read_predictions(first), read_predictions(second)
    if [(p.id, p.question) for p in before] != [(p.id, p.question) for p in after]:
        different = next(
            (str(a.row) for a, b in zip(before, after, strict=False) if (a.id, a.question) != (b.id, b.question)),
            str(min(len(before), len(after))),
        )
        raise InputError(
            f"{first} ({counted(len(before), 'row')}) and {second} ({counted(len(after), 'row')}) are over other "
            f"rows, the first difference is at row {different}; evaluate both on the same --data"
        )
    values = {
        "gIoU": [[p.iou for p in some] for some in (before, after)],
        "box_acc@0.5": [[float(p.box_iou > 0.5) for p in some] for some in (before, after)],
        "format_rate": [[float(p.well_formed) for p in some] for some in (before, after)],
    }
    kinds = sorted({p.kind for p in before})
    for kind in kinds if len(kinds) > 1 else ():
        pair = [[p.iou for p in some if p.kind == kind] for some in (before, after)]
        if len(pair[0]) > 1:
            values[f"gIoU, {kind or 'no kind'}"] = pair
    order = sorted(zip(before, after, strict=True), key=lambda pair: (-abs(pair[1].iou - pair[0].iou), pair[0].row))
    return Comparison(
        rows=len(before),
        before={name: sum(a) / len(a) for name, (a, _) in values.items()},
        after={name: sum(b) / len(b) for name, (_, b) in values.items()},
        differences={name: paired_difference(a, b) for name, (a, b) in values.items()},
        changed=[pair for pair in order[:CHANGED_ROWS] if pair[0].iou != pair[1].iou],
        other_settings=_other_settings(first, second),
    )


def _other_settings(first: Path, second: Path) -> dict[str, tuple[Any, Any]]:
    one, two = (read_json(folder / MANIFEST) for folder in (first, second))
    return {name: (one.get(name), two.get(name)) for name in {**one, **two} if one.get(name) != two.get(name)}
