"""``seg-zero rewards audit``: what bad answers earn with a reward, and what right ones lose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from seg_zero.command_line import CommandParser, unknown_command
from seg_zero.data.check import ERRORS, inspect_row
from seg_zero.data.rows import Row
from seg_zero.errors import InputError, counted
from seg_zero.evaluation.sets import open_set
from seg_zero.rewards.attacks import Case
from seg_zero.rewards.audit import MIN_IOU, MOST_EARNED, MOST_ROWS, AuditReport, audit
from seg_zero.rewards.presets import preset_settings, presets, read_terms

_NAMES = 46  # characters of the first column


def case_of(row: Row) -> Case:
    """The truth of a row. Raises InputError for a row that training would refuse."""
    faults = [f"{what}: {detail}" for what, detail in inspect_row(row).problems if what in ERRORS]
    if faults:
        raise InputError(f"row {row.id!r}: {faults[0]}; `seg-zero data check` lists such rows")
    size, truth = row.image().size, row.truth()
    return Case(row.solution, row.objects(), size, None if truth is None else truth == 1)


def table(report: AuditReport, reward: str, data: str) -> str:
    """The report for printing."""
    bar = f"{MOST_EARNED:.0%} or more"
    lines = [
        f"{reward} on {counted(report.rows, 'row')} of {data}: the truth earns {report.highest:g}",
        "",
        f"{f'strategies, mask IoU below {MIN_IOU:g}':<{_NAMES}}{'rows':>7}{'largest':>10}{bar:>14}",
    ]
    for name, earned in report.attacks.items():
        paid = earned.paid_rows / report.rows
        lines.append(f"{name:<{_NAMES}}{earned.low_rows:>7}{earned.largest:>10.1%}{paid:>14.1%}")
    lines += ["", f"{'true objects, bad form':<{_NAMES}}{'least loss':>17}"]
    lines += [f"{name:<{_NAMES}}{loss.smallest:>17.1%}" for name, loss in report.bad_form.items()]
    lines += ["", f"{'true answers, honest styles':<{_NAMES}}{'largest loss':>17}{'rows':>14}"]
    lines += [f"{name:<{_NAMES}}{loss.largest:>17.1%}{loss.rows:>14}" for name, loss in report.styles.items()]
    problems = report.problems
    lines += ["", "fails:" if problems else "passes", *(f"  {problem}" for problem in problems)]
    return "\n".join(lines)


def as_json(report: AuditReport, reward: str, data: str) -> dict[str, Any]:
    """The report as JSON; fractions are in 0..1."""
    return {
        "reward": reward,
        "data": data,
        "bars": {"mask_iou_below": MIN_IOU, "earned": MOST_EARNED, "rows": MOST_ROWS},
        **asdict(report),
        "honest_loss": max(loss.largest for loss in report.styles.values()),
        "problems": report.problems,
        "passed": not report.problems,
    }


def parsers() -> dict[str, CommandParser]:
    parser = CommandParser("rewards audit", main.__doc__)
    parser.add_argument(
        "--reward", default="seg_zero", metavar="NAME", help="one of configs/reward (default: %(default)s)"
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="ROWS",
        help="dataset whose truths are attacked, or a named set such as synthetic (docs/evaluation.md)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="take only the first N rows (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if the reward fails")
    return {"audit": parser}


def main(argv: Sequence[str]) -> int:
    """Attack a reward with bad answers to every row, and try right answers in honest styles."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: seg-zero rewards audit [options]\n\n`seg-zero rewards audit --help` shows the options.")
        return 0 if argv else 2
    if argv[0] != "audit":
        raise unknown_command("rewards command", argv[0], ["audit"])
    args = parsers()["audit"].parse_args(argv[1:])
    if args.reward not in presets():
        raise InputError(f"--reward {args.reward!r} is unknown; choose one of {', '.join(presets())}")
    if args.limit is not None and args.limit < 1:
        raise InputError(f"--limit {args.limit}: give 1 or more")
    source, _rule = open_set(args.data)
    rows = source.select(range(min(len(source), args.limit or len(source))))
    try:
        report = audit(read_terms(preset_settings(args.reward)), [case_of(row) for row in rows])
    except ValueError as error:
        raise InputError(f"--reward {args.reward} on --data {args.data}: {error}") from error
    if args.json:
        print(json.dumps(as_json(report, args.reward, args.data), indent=2))
    else:
        print(table(report, args.reward, args.data))
    return 1 if args.strict and report.problems else 0
