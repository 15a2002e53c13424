"""``seg-zero label evaluate3d``: rooms labelled by text from posed RGB-D, and their mIoU."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seg_zero.cli.label.options import add_method_options, load_labeller, refinement_of, settings_of
from seg_zero.command_line import CommandParser
from seg_zero.errors import InputError, print_error
from seg_zero.extras import EXTRAS, require

# As RADSeg's evaluation in 3D sets them; pictures of about 640 x 1136 pixels.
PUBLISHED: dict[str, Any] = {"crop": 336, "stride": 112, "fit": (1136, 640)}
THRESHOLD = 0.1


def parser() -> CommandParser:
    made = CommandParser(
        "label evaluate3d",
        "Label the voxels of rooms by text, from feature maps of posed RGB-D frames, and compare them with the truth.",
    )
    made.add_argument(
        "sequences", nargs="+", type=Path, help="folders of sequences; docs/online3d.md lists the layouts"
    )
    made.add_argument(
        "--classes",
        type=Path,
        required=True,
        metavar="FILE",
        help='JSON such as {"couch, sofa": 7}: numbers of the truth by labels; others do not count',
    )
    made.add_argument(
        "--truth", type=Path, help="npz with points V x 3 and ids V, class * 1000 + instance (default: the sequence's)"
    )
    made.add_argument(
        "--out", type=Path, default=Path("outputs/label3d"), help="folder for metrics.json and summary.md"
    )
    made.add_argument("--voxel_size", type=float, default=0.05, help="metres (default: %(default)s)")
    made.add_argument("--every", type=int, default=10, help="of the frames, every so many (default: %(default)s)")
    made.add_argument(
        "--neighbours", type=int, default=5, help="voxels that decide on one of the truth; 0: its own (default: 5)"
    )
    made.add_argument("--quiet", action="store_true", help="no line for every frame")
    add_method_options(made, windows="336 and 112; the embedded backbone's own", threshold=THRESHOLD)
    return made


def main(argv: Sequence[str]) -> int:
    args = parser().parse_args(argv)
    require("label evaluate3d", (*EXTRAS["open-vocabulary"], *EXTRAS["online3d"]))
    from seg_zero.files import check_folder_place, make_folder, write_json, write_text
    from seg_zero.online3d.evaluation.judge import read_classes
    from seg_zero.online3d.inputs.loaders.layouts import open_sequence
    from seg_zero.online3d.semantic.judge import Judged3d, Protocol, judge_sequence, table
    from seg_zero.online3d.synthetic.files import TRUTH, read_truth
    from seg_zero.open_vocabulary.labels import parse_labels

    # What is wrong with the options or folders is told before a model is loaded.
    check_folder_place(args.out)
    if args.truth is not None and len(args.sequences) > 1:
        raise InputError(f"--truth {args.truth} is of one sequence, but {len(args.sequences)} were given")
    classes = read_classes(args.classes)
    parse_labels(list(classes))
    protocol = Protocol(args.voxel_size, args.every, args.neighbours)
    settings, refinement = _settings(args), refinement_of(args)
    rooms = [(open_sequence(folder), read_truth(args.truth or folder / TRUTH)) for folder in args.sequences]
    segmenter = load_labeller(args, settings, refinement)
    judged: dict[str, Judged3d] = {}
    for folder, (sequence, truth) in zip(args.sequences, rooms, strict=True):
        say = _silent if args.quiet else print
        judged[str(folder)] = one = judge_sequence(segmenter, sequence, truth, classes, protocol, say)
        if one.problems:
            print_error(f"{len(one.problems)} frames of {folder} were left out:", *one.problems[:5])
    text, total = table(judged, classes)
    make_folder(args.out)
    record = {
        "together": total.result("detectron2"),
        "sequences": {name: one.as_json() for name, one in judged.items()},
    }
    write_json(args.out / "metrics.json", {**record, "backbone": args.backbone, "classes": classes})
    write_text(args.out / "summary.md", text)
    print(text + str(args.out / "summary.md"))
    return 0


def _settings(args: argparse.Namespace) -> Any:
    embedded = args.backbone == "tiny"  # it has its own windows and size
    return settings_of(args, threshold=THRESHOLD, **({} if embedded else PUBLISHED))


def _silent(line: str) -> None:
    """Takes a line of progress and drops it."""
