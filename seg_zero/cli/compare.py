"""The command ``seg-zero compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seg_zero.command_line import CommandParser


def parser() -> CommandParser:
    made = CommandParser("compare", main.__doc__)
    made.add_argument("first", type=Path, help="folder of the first evaluation (A)")
    made.add_argument("second", type=Path, help="folder of the second evaluation (B)")
    return made


def main(argv: Sequence[str]) -> int:
    """What changed between two evaluations of the same rows, with intervals and p-values."""
    args = parser().parse_args(argv)
    from seg_zero.evaluation.compare import compare

    print(compare(args.first, args.second).table())
    return 0
