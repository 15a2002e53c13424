"""The command ``seg-zero label evaluate``: mIoU of label maps on data sets, by two rules."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_zero.cli.label.options import (
    add_method_options,
    load_labeller,
    refinement_of,
    refinement_record,
    settings_of,
)
from seg_zero.command_line import CommandParser
from seg_zero.errors import InputError, counted, print_error
from seg_zero.extras import EXTRAS, require
from seg_zero.files import check_folder_place

if TYPE_CHECKING:
    from seg_zero.evaluation.semantic.presets import LabelSet
    from seg_zero.evaluation.semantic.run import Judged, Results
    from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter

DATASETS = ("voc20", "context59", "ade20k", "coco_stuff", "cityscapes", "folder")
RESOLUTIONS = ("low", "mid", "high")
SUMMARY = "summary.md"
_SHOWN = 5  # problems on the terminal


def parser() -> CommandParser:
    made = CommandParser("label evaluate", main.__doc__)
    made.add_argument("--dataset", choices=DATASETS, help="which; docs/open_vocabulary.md describes the folders")
    made.add_argument("--all", action="store_true", help="instead: every benchmark that lies below --root")
    made.add_argument("--root", type=Path, required=True, help="folder of the data set; with --all, of all of them")
    made.add_argument("--resolution", choices=RESOLUTIONS, help="of the benchmark (default: mid; with --all: each)")
    made.add_argument("--out", required=True, type=Path, help="folder for this evaluation; rerun to resume")
    made.add_argument("--labels", help="other words for the classes, in their order, as for seg-zero label")
    made.add_argument("--limit", type=int, help="take only the first N pictures (default: all)")
    add_method_options(made, windows="the data set's")
    return made


def main(argv: Sequence[str]) -> int:
    """MIoU of label maps on a data set, by mmseg's and detectron2's rules; rerun the same command to resume."""
    args = parser().parse_args(argv)
    if args.all == (args.dataset is not None):
        raise InputError("give one of --dataset NAME and --all")
    if args.limit is not None and args.limit < 1:
        raise InputError(f"--limit {args.limit} must be at least 1")
    if args.all and args.labels is not None:
        raise InputError("--labels names the classes of one data set; give it with --dataset")
    require("label evaluate", EXTRAS["open-vocabulary"])
    check_folder_place(args.out)
    from seg_zero.evaluation.semantic.presets import open_set
    from seg_zero.open_vocabulary.labels import parse_labels, split_labels

    labels = None if args.labels is None else split_labels(args.labels)
    if labels is not None:
        parse_labels(labels)
    models = _Models(args)
    if args.all:
        return _everything(args, models)
    results = _one(args, models, open_set(args.dataset, args.root, args.resolution, labels), args.out)
    return 1 if results.failed else 0


class _Models:
    """Loads the models when the first picture needs them, and sets them for one data set after another."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self._loaded: OpenVocabularySegmenter | None = None

    @cached_property
    def backbone_files(self) -> str:
        """Identifies the content of the backbone. Raises InputError if there is none of that name."""
        from seg_zero.encoders.radio import find_radio
        from seg_zero.evaluation.run import fingerprint

        return fingerprint(str(find_radio(self.args.backbone)))

    def settings(self, data: LabelSet) -> dict[str, Any]:
        """What decides the results, for the manifest; values out of range are found here."""
        args = self.args
        refinement = refinement_of(args, **self._threshold(data))
        return {
            "backbone": args.backbone,
            "backbone_files": self.backbone_files,
            "adaptor": args.adaptor,
            "method": asdict(settings_of(args, **data.settings)),
            **refinement_record(args, refinement),
            "dtype": args.dtype,
        }

    def loader(self, data: LabelSet) -> Callable[[], OpenVocabularySegmenter]:
        settings = settings_of(self.args, **data.settings)
        refinement = refinement_of(self.args, **self._threshold(data))

        def load() -> OpenVocabularySegmenter:
            if self._loaded is None:
                self._loaded = load_labeller(self.args, settings, refinement)
            self._loaded.change(settings)
            self._loaded.refine_with(self._loaded.refiner, refinement)
            self._loaded.set_labels(list(data.labels))
            return self._loaded

        return load

    @staticmethod
    def _threshold(data: LabelSet) -> dict[str, float]:
        return {} if data.coarse_threshold is None else {"coarse_threshold": data.coarse_threshold}


def _one(args: argparse.Namespace, models: _Models, data: LabelSet, out: Path) -> Results:
    from seg_zero.cli.progress import LateBar
    from seg_zero.evaluation.semantic.page import write_page
    from seg_zero.evaluation.semantic.run import evaluate_labels

    if args.limit is not None:
        data = replace(data, listing=replace(data.listing, pairs=data.listing.pairs[: args.limit]))
    start, labelled = time.perf_counter(), 0
    with LateBar(total=len(data.listing.pairs), unit="image") as bar:

        def progress(one: Judged, old: bool) -> None:
            nonlocal labelled
            labelled += 0 if old else 1
            bar.advance()

        results = evaluate_labels(models.loader(data), data, models.settings(data), out, progress)
    seconds = time.perf_counter() - start
    speed = f"This run: {counted(labelled, 'picture')} labelled in {seconds:.1f} s."
    write_page(out / "report.html", results, out, speed)
    ours, other = results.confusion.result(), results.confusion.result("detectron2")
    numbers = f"mIoU {ours['mIoU']:.4f} (detectron2's rule {other['mIoU']:.4f}), pixels right {ours['aAcc']:.4f}"
    print(f"{data.title}: {numbers}, {counted(len(results.images) - len(results.failed), 'picture')}")
    if results.failed:
        shown = [str(one.problem) for one in results.failed[:_SHOWN]]
        more = len(results.failed) - len(shown)
        print_error(
            f"{len(results.failed)} of {len(results.images)} pictures could not be judged:",
            *shown,
            *([f"and {more} more, in {out / 'metrics.json'}"] if more else []),
        )
    print(f"{speed}\nopen {(out / 'report.html').resolve()}", flush=True)
    return results


def _everything(args: argparse.Namespace, models: _Models) -> int:
    from seg_zero.evaluation.semantic.presets import PRESETS, open_set
    from seg_zero.files import write_text

    if not args.root.is_dir():
        raise InputError(f"--root {args.root} does not exist; give the folder that holds the data sets")
    rows, problems = [], []
    roots = {name: root for name, preset in PRESETS.items() if (root := preset.found_below(args.root)) is not None}
    missing = [f"{name} ({preset.places[0]})" for name, preset in PRESETS.items() if name not in roots]
    if roots:
        print(
            f"backbone {args.backbone}: {models.backbone_files}"
        )  # a wrong name ends here, not once for each data set
    for name, root in roots.items():
        for resolution in [args.resolution] if args.resolution else RESOLUTIONS:
            try:
                results = _one(args, models, open_set(name, root, resolution), args.out / f"{name}_{resolution}")
            except InputError as error:
                problems.append(f"{name}, {resolution}: {error}")
                print_error(error)
                continue
            rows.append((name, resolution, results))
            problems += [str(one.problem) for one in results.failed[:1]]
    if missing:
        print(f"not below {args.root}: {', '.join(missing)}")
    if not rows:
        raise InputError(f"no data set below {args.root} could be evaluated; docs/open_vocabulary.md lists the folders")
    write_text(args.out / SUMMARY, _table(rows))
    print(f"\n{_table(rows)}\n{args.out / SUMMARY}")
    return 1 if problems else 0


def _table(rows: Sequence[tuple[str, str, Results]]) -> str:
    lines = [
        "| data set | resolution | mIoU | mIoU, detectron2 | pixels right | pictures |",
        "|---|---|---|---|---|---|",
    ]
    for name, resolution, results in rows:
        ours, other = results.confusion.result(), results.confusion.result("detectron2")
        count = len(results.images) - len(results.failed)
        numbers = f"{ours['mIoU']:.4f} | {other['mIoU']:.4f} | {ours['aAcc']:.4f} | {count}"
        lines.append(f"| {name} | {resolution} | {numbers} |")
    return "\n".join(lines) + "\n"
