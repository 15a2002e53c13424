"""``seg-zero remote-sensing evaluate``: mIoU, mACC, fwIoU and boundary IoU on OVRSISBench, and the paper's table."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_zero.cli.remote_sensing.check import NAMES, SPLITS
from seg_zero.cli.remote_sensing.labeller import add_labeller_options, load_method, method_of, name_of, settings_in
from seg_zero.command_line import CommandParser, did_you_mean
from seg_zero.errors import InputError, counted, print_error

if TYPE_CHECKING:
    from seg_zero.evaluation.remote_sensing.table import Judgement
    from seg_zero.evaluation.semantic.run import Labeller
    from seg_zero.remote_sensing.data.folders import FolderTiles

SUMMARY, RECORD, PAGE = "summary.md", "benchmark.json", "index.html"
_SHOWN = 5  # problems on the terminal


def parser() -> CommandParser:
    made = CommandParser("remote-sensing evaluate", main.__doc__)
    made.add_argument("--data", required=True, type=Path, metavar="ROOT", help="folder of data sets, or of the one")
    made.add_argument("--datasets", metavar="NAME,...", help=f"any of {', '.join(NAMES)}")
    made.add_argument("--all", action="store_true", help="instead: each of the eight that lies below --data")
    made.add_argument("--out", required=True, type=Path, help="folder for this evaluation; rerun to resume")
    made.add_argument("--split", choices=SPLITS, default="all", help="part of each data set; the benchmark takes all")
    made.add_argument("--limit", type=int, help="take only the first N tiles of each (default: all)")
    made.add_argument(
        "--trained_on", metavar="NAME,...", help="data sets of the training, named as in-domain (default: none)"
    )
    add_labeller_options(made)
    return made


def main(argv: Sequence[str]) -> int:
    """Judge labels of aerial tiles on the data sets of OVRSISBench by detectron2's rule; rerun to resume."""
    args = parser().parse_args(argv)
    if args.all == (args.datasets is not None):
        raise InputError("give one of --datasets NAME,... and --all")
    if args.limit is not None and args.limit < 1:
        raise InputError(f"--limit {args.limit} must be at least 1")
    method = method_of(args)
    trained = _names("--trained_on", args.trained_on or "")
    from seg_zero.files import check_folder_place, write_json, write_text

    check_folder_place(args.out)
    found, missing = _found(args)
    settings = settings_in(args, method)
    load = cache(lambda: load_method(args, method))
    judged: list[Judgement] = []
    for tiles in found:
        try:
            judged.append(_one(args, tiles, settings, load, trained))
        except InputError as error:
            if len(found) == 1:
                raise
            missing.append(f"{tiles.dataset} ({error})")
            print_error(error)
    if not judged:
        raise InputError(f"no data set below {args.data} could be evaluated; docs/remote_sensing.md lists the folders")
    from seg_zero.evaluation.remote_sensing.table import markdown, our_row, record, write_table_page

    ours = our_row(name_of(args, method), trained, judged)
    table = markdown(judged, ours)
    write_text(args.out / SUMMARY, table)
    write_json(args.out / RECORD, record(judged, ours))
    write_table_page(args.out / PAGE, judged, ours, missing)
    if missing:
        print(f"not evaluated: {', '.join(missing)}")
    print(f"\n{table}\nopen {(args.out / PAGE).resolve()}")
    return 1 if any(one.results.failed for one in judged) else 0


def _found(args: argparse.Namespace) -> tuple[list[FolderTiles], list[str]]:
    """The data sets that the options name, and what is not there."""
    from seg_zero.remote_sensing.data.datasets import DATASETS
    from seg_zero.remote_sensing.data.folders import found_below, open_tiles

    if not args.all:
        names = _names("--datasets", args.datasets)
        if not names:
            raise InputError(f"--datasets {args.datasets!r} names none; choose from {', '.join(NAMES)}")
        return [open_tiles(name, args.data, args.split) for name in names], []
    if not args.data.is_dir():
        raise InputError(f"--data {args.data} does not exist; give the folder of the data sets")
    there = [name for name in found_below(args.data) if args.split in DATASETS[name].places]
    found = [open_tiles(name, args.data, args.split) for name in there]
    return found, [name for name in DATASETS if name not in there]


def _names(option: str, text: str) -> list[str]:
    found = [part.strip().lower() for part in text.split(",") if part.strip()]
    for name in found:
        if name not in NAMES:
            nearest = did_you_mean(name, NAMES) or f"; choose from {', '.join(NAMES)}"
            raise InputError(f"{option} {name!r} is unknown{nearest}")
    return list(dict.fromkeys(found))


def _one(
    args: argparse.Namespace,
    tiles: FolderTiles,
    settings: dict[str, Any],
    load: Callable[[], Any],
    trained: Sequence[str],
) -> Judgement:
    from seg_zero.cli.progress import LateBar
    from seg_zero.evaluation.remote_sensing.judge import judge_of, label_set
    from seg_zero.evaluation.remote_sensing.table import Judgement
    from seg_zero.evaluation.semantic.page import write_page
    from seg_zero.evaluation.semantic.run import Judged, evaluate_labels

    data, out = label_set(tiles), args.out / tiles.dataset
    if args.limit is not None:
        data = replace(data, listing=replace(data.listing, pairs=data.listing.pairs[: args.limit]))
    start, labelled = time.perf_counter(), 0
    with LateBar(total=len(data.listing.pairs), unit="tile", desc=tiles.dataset) as bar:

        def progress(one: Judged, old: bool) -> None:
            nonlocal labelled
            labelled += 0 if old else 1
            bar.advance()

        def labeller() -> Labeller:
            return judge_of(load(), data.labels)

        results = evaluate_labels(labeller, data, {**settings, "split": tiles.split}, out, progress)
    speed = f"This run: {counted(labelled, 'tile')} labelled in {time.perf_counter() - start:.1f} s."
    write_page(out / "report.html", results, out, speed, "every pixel labelled by text")
    made = Judgement(tiles.dataset, results, *_in_domain(tiles, trained))
    numbers = made.numbers()
    shown = ", ".join(f"{key} {100 * numbers[key]:.2f}" for key in ("mIoU", "mACC", "fwIoU", "boundary_IoU"))
    print(f"{data.title}: {shown}, {counted(made.judged, 'tile')}", flush=True)
    if (note := made.note()) is not None:
        print(f"  {note}")
    if results.failed:
        problems = [str(one.problem) for one in results.failed]
        more = [f"and {len(problems) - _SHOWN} more, in {out / 'metrics.json'}"] if len(problems) > _SHOWN else []
        print_error(f"{len(problems)} of {len(results.images)} could not be judged:", *problems[:_SHOWN], *more)
    return made


def _in_domain(tiles: FolderTiles, trained: Sequence[str]) -> tuple[bool, int | None]:
    """Whether the tiles hold pictures of the training, and how many, where the split of the training lies beside."""
    from seg_zero.remote_sensing.data.folders import open_tiles

    if tiles.dataset not in trained or tiles.split == "val":
        return False, None
    try:
        names = {pair.image.stem for pair in open_tiles(tiles.dataset, tiles.folder, "train").listing.pairs}
    except InputError:
        return True, None
    shared = sum(pair.image.stem in names for pair in tiles.listing.pairs)
    return True, shared
