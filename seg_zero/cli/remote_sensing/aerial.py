"""``seg-zero remote-sensing aerial OUT``: the synthetic aerial world as folders of labelled tiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seg_zero.command_line import CommandParser
from seg_zero.errors import InputError


def parser() -> CommandParser:
    made = CommandParser("remote-sensing aerial", main.__doc__)
    made.add_argument("out", type=Path, help="folder to write")
    made.add_argument("--train", type=int, default=200, help="tiles of the first sensor to train on")
    made.add_argument("--evaluate", type=int, default=50, help="tiles of each folder to evaluate on")
    made.add_argument("--size", type=int, default=256, help="side of a tile in pixels")
    made.add_argument("--seed", type=int, default=0, help="another seed, another world")
    return made


def main(argv: Sequence[str]) -> int:
    """Make the synthetic aerial world: a sensor to train on, another to evaluate on, unseen classes and names."""
    args = parser().parse_args(argv)
    for name, least in (("train", 1), ("evaluate", 1), ("size", 32), ("seed", 0)):
        if getattr(args, name) < least:
            raise InputError(f"--{name} {getattr(args, name)}: give {least} or more")
    from seg_zero.remote_sensing.data.aerial.tiles import write_world

    for name, tiles in write_world(args.out, args.train, args.evaluate, args.seed, args.size).items():
        print(f"{args.out / name}: {len(tiles)} tiles, {', '.join(tiles.classes)}")
    return 0
