"""``seg-zero data import NAME --out FILE``: any readable dataset to one parquet file of the row schema."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from seg_zero.data.check import CheckReport, check, count_cores
from seg_zero.data.rows import Row, write_rows
from seg_zero.data.source import RowSource, open_rows
from seg_zero.errors import InputError, counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="file, folder, hub id or NAME@SPLIT (docs/data.md lists all kinds)")
    parser.add_argument("--out", required=True, help="parquet file to write")
    parser.add_argument(
        "--skip-bad", action="store_true", help="skip and list rows with errors (default: stop at the first)"
    )
    parser.add_argument("--workers", type=int, default=count_cores(), help="processes (default: one per core)")


def import_rows(
    source: RowSource, out: Path, *, skip_bad: bool, workers: int, progress: Callable[[int], object] | None = None
) -> CheckReport:
    """Check all rows, then write the good ones, in constant memory; ``progress`` is told of rows done, each twice.

    Raises InputError if rows have errors and ``skip_bad`` is not set, or if no row is good.
    """
    report = check(source, workers=workers, progress=progress)
    bad = report.bad_rows
    if bad and not skip_bad:
        raise InputError(
            f"{len(bad)} of {len(source)} rows of {source.name} have errors, the first: {report.errors[0].line()}. "
            "--skip-bad skips them"
        )
    if len(bad) == len(source):
        raise InputError(f"no row of {source.name} is good; see `seg-zero data check {source.name}`")
    good = source.select(np.setdiff1d(np.arange(len(source)), bad))

    def rows() -> Iterator[Row]:
        for row in good:
            yield row
            if progress is not None:
                progress(1)

    write_rows(out, rows())
    return report


def run(args: argparse.Namespace) -> int:
    """The command ``seg-zero data import``."""
    from tqdm import tqdm

    if args.workers < 1:
        raise InputError(f"--workers {args.workers}: give 1 or more")
    source = open_rows(args.name)
    with tqdm(total=2 * len(source), unit="row", file=sys.stderr) as bar:
        report = import_rows(
            source,
            Path(args.out),
            skip_bad=args.skip_bad,
            workers=args.workers,
            progress=lambda more: bar.update(min(more, 2 * len(source) - bar.n)),
        )
    for problem in report.errors:
        print(f"skipped: {problem.line()}")
    print(f"{counted(len(source) - len(report.bad_rows), 'row')} written to {args.out}; {len(report.bad_rows)} skipped")
    return 0
