"""``seg-zero data NAME``: makes, imports and checks dataset files."""

from __future__ import annotations

import argparse
import importlib
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seg_zero.command_line import CommandParser, unknown_command
from seg_zero.data.check import count_cores
from seg_zero.errors import InputError, counted
from seg_zero.files import write_text
from seg_zero.masks import POINT_RULES

# Name -> (module, what it reads). A builder's module has add_arguments(parser) and source(args).
BUILDERS: dict[str, tuple[str, str]] = {
    "refcoco": ("seg_zero.data.builders.refcoco", "RefCOCO, RefCOCO+ and RefCOCOg"),
    "grefcoco": ("seg_zero.data.builders.grefcoco", "gRefCOCO: one, several or no object"),
    "lvis": ("seg_zero.data.builders.lvis", "LVIS v1: all objects of a category"),
    "lisa_plus": ("seg_zero.data.builders.lisa_plus", "LISA++: reasoning questions about several objects of COCO"),
    "coco": ("seg_zero.data.builders.coco", "COCO instances: all objects of a category"),
    "reasonseg": ("seg_zero.data.builders.reasonseg", "ReasonSeg: reasoning questions, with ignored pixels"),
    "labelme": ("seg_zero.data.builders.labelme", "a folder of LabelMe files"),
    "folder": ("seg_zero.data.builders.folder", "your own pictures, mask files and a table of questions"),
}
# Name -> (module, what it does). A tool's module has add_arguments(parser) and run(args) -> exit code.
TOOLS: dict[str, tuple[str, str]] = {
    "synthetic": ("seg_zero.data.synthetic.rows", "synthetic scenes with exact masks"),
    "dialogues": (
        "seg_zero.dialogue.data.command",
        "dialogues: synthetic, of instances, imported; their check",
    ),
    "check": ("seg_zero.cli.data.check", "what is wrong with a dataset, and what is in it"),
    "import": ("seg_zero.data.builders.import_rows", "any readable dataset to one parquet file"),
}

SHOWN_PROBLEMS = 20


def _add_builder_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, help="parquet file to write")
    parser.add_argument(
        "--image_size",
        default="840",
        help="side that images are stretched to, in pixels, a multiple of the policy's image token (28; 32 for "
        "Qwen3-VL), or 'original' (default: %(default)s)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="take only the first N questions (default: all)")
    parser.add_argument(
        "--shuffle", type=int, metavar="SEED", help="shuffle questions before --limit (default: do not)"
    )
    parser.add_argument("--workers", type=int, default=count_cores(), help="processes (default: one per core)")
    parser.add_argument(
        "--skip-bad", action="store_true", help="skip and list unusable examples (default: stop at the first)"
    )
    parser.add_argument(
        "--strict", action="store_true", help="treat objects without an area as errors (default: drop and count them)"
    )
    parser.add_argument(
        "--points",
        choices=POINT_RULES,
        default="inscribed",
        help="how points are taken from masks: inscribed (default), or published, as in the published training sets; "
        "docs/datasets.md says how they differ",
    )
    parser.add_argument(
        "--sam2_filter", metavar="MODEL", help="drop rows this SAM2 (file, folder, hub id or 'tiny') cannot segment"
    )
    parser.add_argument(
        "--min_agreement", type=float, default=0.6, help="IoU below which --sam2_filter drops a row (default: 0.6)"
    )


def _side(text: str) -> int | None:
    from seg_zero.policy.families import spec_of_stored_images

    if text == "original":
        return None
    if not text.isdigit():
        raise InputError(f"--image_size {text!r} is neither a number of pixels nor 'original'")
    return spec_of_stored_images(int(text)).image_size


def _build(module: Any, args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from seg_zero.data.builders.build import build, check_place

    image_size = _side(args.image_size)
    if args.limit is not None and args.limit < 1:
        raise InputError(f"--limit {args.limit}: give 1 or more")
    if not 0 <= args.min_agreement <= 1:
        raise InputError(f"--min_agreement {args.min_agreement} is not within 0..1; it is an IoU")
    if args.workers < 1:
        raise InputError(f"--workers {args.workers}: give 1 or more")
    check_place(Path(args.out))
    print("reading the annotations", flush=True)
    source = module.source(args)
    records = list(source.records)
    if args.shuffle is not None:
        random.Random(args.shuffle).shuffle(records)
    source = replace(source, records=records[: args.limit])
    segmenter = None
    if args.sam2_filter:
        from seg_zero.segmenter import load_segmenter

        segmenter = load_segmenter(args.sam2_filter)
    with tqdm(total=len(source.records), unit="row", file=sys.stderr) as bar:
        report = build(
            source,
            Path(args.out),
            image_size=image_size,
            workers=args.workers,
            skip_bad=args.skip_bad,
            strict=args.strict,
            points=args.points,
            segmenter=segmenter,
            min_agreement=args.min_agreement,
            progress=bar.update,
        )
    for problem in report.problems[:SHOWN_PROBLEMS]:
        print(f"skipped: {problem}")
    if len(report.problems) > SHOWN_PROBLEMS:
        everything = Path(f"{args.out}.skipped.txt")
        write_text(everything, "".join(f"{problem}\n" for problem in report.problems))
        print(f"skipped: {len(report.problems) - SHOWN_PROBLEMS} more; all are in {everything}")
    for note in source.notes:
        print(note)
    print(
        f"{counted(report.rows, 'row')} written to {args.out}; "
        f"{counted(len(report.problems), 'unusable example')} skipped",
        end="",
    )
    if report.thin_objects:
        thin = (
            f"{counted(report.thin_objects, 'object')} without an area, and "
            f"{counted(report.thin_questions, 'question')} that had no others"
        )
        print(f"; dropped {thin}", end="")
    print(f"; {report.disagreed} dropped by the SAM2 filter" if segmenter else "")
    for kind, count in report.kinds.most_common():
        print(f"  {count:>7}  {kind or '(no kind)'}")
    return 0


def _parser(name: str) -> CommandParser:
    place, text = {**BUILDERS, **TOOLS}[name]
    made = CommandParser(f"data {name}", text[0].upper() + text[1:])
    importlib.import_module(place).add_arguments(made)
    if name in BUILDERS:
        _add_builder_options(made)
    return made


def parsers() -> dict[str, CommandParser]:
    return {name: _parser(name) for name in (*BUILDERS, *TOOLS)}


def main(argv: Sequence[str]) -> int:
    """Make, import or check a dataset file."""
    everything = {**BUILDERS, **TOOLS}
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: seg-zero data NAME [options]\n")
        for name, (_, text) in everything.items():
            print(f"  {name:<12}{text}")
        print("\n`seg-zero data NAME --help` shows the options.")
        return 0 if argv else 2
    name = argv[0]
    if name not in everything:
        raise unknown_command("data command", name, everything)
    module = importlib.import_module(everything[name][0])
    args = _parser(name).parse_args(argv[1:])
    return _build(module, args) if name in BUILDERS else int(module.run(args))
