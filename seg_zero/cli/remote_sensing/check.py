"""``seg-zero remote-sensing check DATASET FOLDER``: what is in a data set, and what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from seg_zero.command_line import CommandParser
from seg_zero.errors import InputError

NAMES = ("dlrsd", "isaid", "loveda", "potsdam", "uavid", "udd5", "vaihingen", "vdd", "folder")
SPLITS = ("all", "train", "val")


def parser() -> CommandParser:
    made = CommandParser("remote-sensing check", main.__doc__)
    made.add_argument("dataset", choices=NAMES, help="which; folder: one of your own, with classes.json")
    made.add_argument("folder", type=Path, help="that of the data set, or of several data sets")
    made.add_argument("--split", choices=SPLITS, default="all", help="which part")
    made.add_argument("--out", type=Path, help="folder for report.json and contact_sheet.png (default: write none)")
    made.add_argument("--samples", type=int, default=12, help="tiles on the contact sheet")
    made.add_argument("--workers", type=int, default=2, help="tiles that are read at once")
    return made


def main(argv: Sequence[str]) -> int:
    """Count the pixels of each class, find unknown label values and files that cannot be used, draw a contact sheet."""
    args = parser().parse_args(argv)
    for name in ("samples", "workers"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}: give 1 or more")
    from tqdm import tqdm

    from seg_zero.files import check_folder_place, write_image, write_json
    from seg_zero.remote_sensing.data.check import check_tiles
    from seg_zero.remote_sensing.data.contact_sheet import contact_sheet
    from seg_zero.remote_sensing.data.folders import open_tiles

    if args.out is not None:
        check_folder_place(args.out)
    tiles = open_tiles(args.dataset, args.folder, args.split)
    with tqdm(total=len(tiles), unit="tile", file=sys.stderr) as bar:
        report = check_tiles(tiles, args.workers, lambda _: bar.update() and None)
    print(report.summary())
    if args.out is not None:
        write_json(args.out / "report.json", report.record())
        write_image(args.out / "contact_sheet.png", contact_sheet(report, args.samples))
        print(f"open {(args.out / 'contact_sheet.png').resolve()}")
    return 1 if report.problems else 0
