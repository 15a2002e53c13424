"""The command ``seg-zero compare``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str]) -> int:
    """What changed between two evaluations of the same rows, with intervals and p-values."""
    parser = argparse.ArgumentParser(prog="seg-zero compare", description=main.__doc__)
    parser.add_argument("first", type=Path, help="folder of the first evaluation (A)")
    parser.add_argument("second", type=Path, help="folder of the second evaluation (B)")
    args = parser.parse_args(argv)
    from seg_zero.evaluation.compare import compare

    print(compare(args.first, args.second).table())
    return 0
