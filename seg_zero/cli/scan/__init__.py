"""``seg-zero scan``: segments a room from an RGB-D sequence; shows and judges the result."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seg_zero.cli.scan import ask, label
from seg_zero.command_line import CommandParser
from seg_zero.errors import InputError, print_warning
from seg_zero.extras import EXTRAS, require
from seg_zero.files import check_file_place, check_folder_place
from seg_zero.online3d.config import RULES
from seg_zero.segmenter.files import embedded_warning

if TYPE_CHECKING:
    from seg_zero.online3d.scan import ScanSummary
    from seg_zero.online3d.scene import MaskSource

PAGE = "index.html"
RECORDING = "scan.rrd"
REPORT = "evaluation.html"
DEMO_FRAMES = 30
LAYOUT_NAMES = ("7-scenes", "scannet", "scenenn", "tum", "replica", "folder")


def _run_parser(name: str = "scan") -> CommandParser:
    made = CommandParser(
        name,
        "Segment a room in 3D from an RGB-D sequence, online, from the 2D masks of its key frames. "
        "`scan show DIR` makes the page of a scan, `scan ask DIR QUESTION` finds objects in it, `scan label DIR` names "
        "them, `scan evaluate DIR` compares it with the truth.",
    )
    made.add_argument("sequence", nargs="?", type=Path, help="folder of a sequence; docs/online3d.md lists the layouts")
    made.add_argument("--all", type=Path, metavar="DATASET", help="instead: every sequence in this folder")
    made.add_argument("--demo", action="store_true", help="instead: a synthetic room, made on the spot")
    made.add_argument("--out", type=Path, default=Path("outputs/scan"), help="folder for the result")
    made.add_argument("--layout", choices=LAYOUT_NAMES, help="of the sequence (default: found out)")
    made.add_argument(
        "--masks",
        type=Path,
        metavar="FOLDER",
        help="folder with `mask/`, as the original's (default: SAM2 finds the masks); with --all a folder of such "
        "folders, named like the sequences",
    )
    made.add_argument(
        "--segmenter", default="tiny", help="SAM2 that finds the masks: checkpoint, folder or hub id (default: tiny)"
    )
    made.add_argument("--points_per_side", type=int, default=16, help="grid of points that SAM2 is asked about")
    made.add_argument(
        "--features",
        metavar="ENCODER",
        help="also a vector for each mask, for names and questions by text: siglip2:FOLDER_OR_ID, "
        "clip:MODEL:PRETRAINED or radio:BACKBONE[:ADAPTOR] (default: none, or those in the folder of masks)",
    )
    made.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: cuda if available)")
    made.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="thresholds, such as voxel_size=0.05 (default: none)"
    )
    made.add_argument(
        "--rule",
        choices=RULES,
        help="thresholds for vectors of masks: fixed, or adaptive to encoder and scene; short for --set rule=NAME "
        "(default: fixed)",
    )
    made.add_argument("--checkpoint_seconds", type=float, default=30.0, help="time between two checkpoints")
    made.add_argument(
        "--no_coco", action="store_true", help="no coco/NUMBER.json with the masks of the objects for each key frame"
    )
    made.add_argument("--quiet", action="store_true", help="no line for every key frame")
    return made


def _show_parser() -> CommandParser:
    made = CommandParser("scan show", "Write the page of a scan: its points in 3D and a list of its instances.")
    made.add_argument("folder", type=Path, help="folder of a scan")
    made.add_argument(
        "--rerun",
        action="store_true",
        help="instead: a recording for rerun's viewer, which also has the camera's way and the masks of each key frame",
    )
    made.add_argument("--out", type=Path, help=f"file to write (default: {PAGE}, or {RECORDING}, in the folder)")
    made.add_argument("--max_points", type=int, default=150_000, help="points in it, chosen at random")
    return made


def _evaluate_parser() -> CommandParser:
    made = CommandParser("scan evaluate", "AP, AP50 and AP25 of scans, by the ScanNet rules.")
    made.add_argument("folders", nargs="+", type=Path, help="folders of scans")
    made.add_argument(
        "--truth",
        type=Path,
        help="npz with points V x 3 and ids V, class * 1000 + instance; or the folder of a scene of ScanNet or SceneNN "
        "with its annotations (default: the sequence's)",
    )
    made.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help='also AP by class: JSON such as {"chair": 2}, the numbers of the truth by the names of `scan label`, or '
        "scannetv2-labels.combined.tsv for the classes of ScanNet200",
    )
    made.add_argument(
        "--out", type=Path, help=f"folder for evaluation.json and {REPORT} (default: that of the scan, if it is one)"
    )
    made.add_argument(
        "--register", action="store_true", help="first bring the truth onto the scan by iterative closest points (5 cm)"
    )
    made.add_argument("--min_vertices", type=int, default=100, help="smaller instances do not count")
    return made


def parsers() -> dict[str, CommandParser]:
    return {
        "run": _run_parser("scan run"),
        "show": _show_parser(),
        "ask": ask.parser(),
        "label": label.parser(),
        "evaluate": _evaluate_parser(),
    }


def main(argv: Sequence[str]) -> int:
    """Segment a room from an RGB-D sequence, show the result, ask about it, or judge it."""
    tools = {"show": _show, "ask": ask.main, "label": label.main, "evaluate": _evaluate}
    if argv and argv[0] in tools:
        return tools[argv[0]](argv[1:])
    return _scan(argv[1:] if argv and argv[0] == "run" else argv)


def _scan(argv: Sequence[str]) -> int:
    args = _run_parser().parse_args(argv)
    given = [args.sequence is not None, args.all is not None, args.demo]
    if sum(given) != 1:
        raise InputError("give one of: the folder of a sequence, --all DATASET, --demo")
    require("scan", EXTRAS["online3d"])
    check_folder_place(args.out)
    if args.demo:
        return _demo(args)
    if args.all is None:
        summary = _one(args, args.sequence, args.out, args.masks)
        print(f"{args.out / 'final.ply'}; next: seg-zero scan show {args.out}")
        return 0 if summary.finished else 1
    return _everything(args)


def _one(args: argparse.Namespace, sequence: Path, out: Path, masks: Path | None) -> ScanSummary:
    from seg_zero.encoders.spaces import Space
    from seg_zero.online3d.inputs.loaders.layouts import open_sequence
    from seg_zero.online3d.scan import describe, scan, settings_of

    settings = _settings(args)
    settings_of(open_sequence(sequence, args.layout), settings)  # what is wrong with it is told before models load
    if args.features is not None and Space.parse(args.features).kind != "siglip2":
        require("scan --features", EXTRAS["open-vocabulary"])
    source, name = _source(args, masks)
    say = _silent if args.quiet else print
    summary = scan(
        sequence, out, source, name, layout=args.layout, settings=settings, features=args.features or "", say=say,
        checkpoint_seconds=args.checkpoint_seconds, coco=not args.no_coco,
    )  # fmt: skip
    print(describe(summary))
    return summary


def _settings(args: argparse.Namespace) -> list[str]:
    """``--set`` and ``--rule`` as ``name=value`` words."""
    if args.rule is None:
        return list(args.set)
    if any(word.startswith("rule=") for word in args.set):
        raise InputError(f"--rule {args.rule} and --set rule=... are the same setting; give one of them")
    return [*args.set, f"rule={args.rule}"]


def _silent(line: str) -> None:
    """Takes a line of progress and drops it."""


def _source(args: argparse.Namespace, masks: Path | None) -> tuple[MaskSource, str]:
    found, name = _masks(args, masks)
    if args.features is None:
        return found, name
    from seg_zero.encoders.spaces import Space
    from seg_zero.online3d.inputs.features import DescribedMasks, features_of

    return DescribedMasks(found, features_of(Space.parse(args.features), args.device)), name


def _masks(args: argparse.Namespace, masks: Path | None) -> tuple[MaskSource, str]:
    from seg_zero.online3d.inputs.mask_sources import AutomaticMasks, FolderMasks

    if masks is not None:
        return FolderMasks(masks), f"folder {masks.resolve()}"
    from seg_zero.segmenter import load_segmenter

    if args.all is None:
        _warn(args)
    model = load_segmenter(args.segmenter, device=args.device)
    return AutomaticMasks(model, args.points_per_side), f"automatic {args.segmenter} {args.points_per_side}"


def _warn(args: argparse.Namespace) -> None:
    warning = embedded_warning(args.segmenter)
    print_warning(warning and f"{warning}, or --masks FOLDER")


def _everything(args: argparse.Namespace) -> int:
    from seg_zero.online3d.inputs.loaders.layouts import sequences_in

    failed = []
    found = sequences_in(args.all)
    if args.masks is None:
        _warn(args)
    for number, sequence in enumerate(found, 1):
        name = "_".join(sequence.relative_to(args.all).parts)
        print(f"[{number}/{len(found)}] {name}", flush=True)
        try:
            _one(args, sequence, args.out / name, None if args.masks is None else args.masks / name)
        except InputError as error:
            print(f"failed: {error}", flush=True)
            failed.append(name)
    print(f"{len(found) - len(failed)} of {len(found)} sequences are in {args.out}")
    if failed:
        raise InputError(f"{len(failed)} sequence(s) could not be scanned: {', '.join(failed)}")
    return 0


def _demo(args: argparse.Namespace) -> int:
    from seg_zero.online3d.synthetic.files import EXACT, write_sequence
    from seg_zero.online3d.synthetic.room import make_room
    from seg_zero.online3d.synthetic.sequence import Faults, SyntheticSequence

    room = args.out / "room"
    if not (room / "truth.npz").exists():
        print("making a synthetic room", flush=True)
        faults = Faults(split=0.25, merged=0.02, missing=0.05)
        write_sequence(SyntheticSequence(make_room(1), DEMO_FRAMES, 320, 240, faults=faults, step=20, turns=1.0), room)
    masks = args.masks
    if masks is None:
        print(f"masks: exact ones with faults; the embedded SAM2 knows flat shapes, not rooms ({room / EXACT})")
        masks = room / EXACT
    _one(args, room, args.out, masks)
    _show([str(args.out)])
    return _evaluate([str(args.out)])


def _show(argv: Sequence[str]) -> int:
    args = _show_parser().parse_args(argv)
    if args.max_points < 1:
        raise InputError(f"--max_points {args.max_points} is less than 1; try 150000")
    require("scan show", EXTRAS["online3d"])
    path = args.out or args.folder / (RECORDING if args.rerun else PAGE)
    check_file_place(path)
    if args.rerun:
        require("scan show --rerun", EXTRAS["rerun"])
        from seg_zero.online3d.page.recording import write_recording

        for problem in write_recording(args.folder, path, args.max_points):
            print(f"left out: {problem}")
        print(f"open it with: rerun {path.resolve()}")
        return 0
    from seg_zero.online3d.page.write import write_page

    write_page(args.folder, path, args.max_points)
    print(f"open {path.resolve()}")
    return 0


def _evaluate(argv: Sequence[str]) -> int:
    args = _evaluate_parser().parse_args(argv)
    require("scan evaluate", EXTRAS["online3d"])
    from seg_zero.files import make_folder, write_json, write_text
    from seg_zero.online3d.evaluation.judge import judge_folders, read_classes
    from seg_zero.online3d.page.evaluation import evaluation_page

    classes = None if args.classes is None else read_classes(args.classes)
    if args.out is not None:
        check_folder_place(args.out)
    judged = judge_folders(args.folders, args.truth, args.min_vertices, classes, args.register)
    print(judged.table())
    out = args.out or (args.folders[0] if len(args.folders) == 1 else None)
    if out is not None:
        write_json(make_folder(out) / "evaluation.json", judged.as_json())
        write_text(out / REPORT, evaluation_page(judged, args.min_vertices, args.register))
        print(f"open {(out / REPORT).resolve()}")
    return 0
