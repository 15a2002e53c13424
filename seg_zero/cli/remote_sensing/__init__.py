"""``seg-zero remote-sensing NAME``: aerial and satellite tiles labelled by text."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from seg_zero.command_line import CommandParser, unknown_command

# Name of a module of this folder: what it does. Each has ``parser()`` and ``main(argv) -> int``.
TOOLS: dict[str, str] = {
    "aerial": "Make the synthetic aerial world: labelled tiles of two sensors.",
    "check": "What is in a data set of labelled tiles, and what is wrong with it.",
    "evaluate": "mIoU, mACC, fwIoU and boundary IoU on the data sets of OVRSISBench, and the paper's table.",
    "segment": "Label tiles of any size: GeoTIFF of labels, polygons, a preview.",
    "train": "Train the model on labelled tiles; arguments are Hydra overrides and --dry-run.",
}


def parsers() -> dict[str, CommandParser]:
    return {name: import_module(f"{__name__}.{name}").parser() for name in TOOLS}


def main(argv: Sequence[str]) -> int:
    """Label aerial and satellite tiles by text."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: seg-zero remote-sensing NAME [options]\n")
        for name, text in TOOLS.items():
            print(f"  {name:<10}{text}")
        print("\n`seg-zero remote-sensing NAME --help` shows the options.")
        return 0 if argv else 2
    name, *rest = argv
    if name not in TOOLS:
        raise unknown_command("remote-sensing command", name, TOOLS)
    code: int = import_module(f"{__name__}.{name}").main(rest)
    return code
