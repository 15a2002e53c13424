"""``seg-zero scan label``: names for the objects of a scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seg_zero.command_line import CommandParser
from seg_zero.extras import EXTRAS, require


def parser() -> CommandParser:
    made = CommandParser(
        "scan label", "Name every object of a scan that was made with --features by the label that fits it best."
    )
    made.add_argument("folder", type=Path, help="folder of a scan")
    made.add_argument(
        "--labels",
        required=True,
        help="chair,table; with synonyms 'sofa, couch; chair'; or a .txt file, a label a line, or .json, a list",
    )
    made.add_argument("--templates", default="single", help="imagenet, single, scene, aerial, none")
    made.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: cuda if available)")
    return made


def main(argv: Sequence[str]) -> int:
    args = parser().parse_args(argv)
    require("scan label", EXTRAS["online3d"])
    from seg_zero.encoders.templates import templates_named
    from seg_zero.online3d.answers.naming import LABELS, name_all, write_names
    from seg_zero.online3d.questions import open_scan
    from seg_zero.open_vocabulary.labels import parse_labels, split_labels

    labels = split_labels(args.labels)
    parse_labels(labels)
    templates_named(args.templates)
    scan = open_scan(args.folder)
    space = scan.described()
    from seg_zero.encoders.text import TextEncoder

    named = name_all(scan.result, labels, TextEncoder(space.text_tower(args.device), args.templates))
    write_names(args.folder, named, scan.result, scan.summary.features)
    for column, (name, probability) in enumerate(zip(named.names, named.probabilities, strict=True), 1):
        print(f"object {column}: {name or 'no vector'}{f' {probability:.2f}' if name else ''}")
    print(f"{args.folder / LABELS}; next: seg-zero scan show {args.folder}")
    return 0
