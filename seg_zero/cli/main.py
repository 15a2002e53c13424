"""The command ``seg-zero``: finds the module of a command and runs it.

Bad input ends in one line on standard error and exit code 2; nothing is half-written.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from seg_zero import __version__
from seg_zero.command_line import PROGRAM, unknown_command
from seg_zero.errors import run_command
from seg_zero.extras import require_base

# Read when torch is imported: threads that spin while they wait make a busy machine fifty times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Name: what it does. ``main`` of the module of that name in this folder takes the arguments and returns the exit code;
# it is imported when the command is given, since most of them import much.
COMMANDS = {
    "infer": "Answer questions about images: reasoning, boxes, points and masks.",
    "chat": "Talk about one picture: questions about earlier answers.",
    "label": "Label every pixel of images by text, without training.",
    "serve": "Answer questions about images over HTTP.",
    "web": "A page to ask questions about pictures in a browser.",
    "remote-sensing": "Label aerial and satellite tiles by text: data sets, evaluation, GeoTIFF.",
    "scan": "Segment a room in 3D from an RGB-D sequence, and show or judge the result.",
    "train": "Train a policy with GRPO; arguments are Hydra overrides and --dry-run.",
    "merge": "Merge a sharded checkpoint into a Hugging Face folder.",
    "evaluate": "gIoU, cIoU and more of a policy over a dataset, with intervals and a report.",
    "compare": "What changed between two evaluations of the same rows.",
    "rewards": "Audit a reward: what bad answers earn, and what right ones lose.",
    "data": "Make, import or check a dataset file.",
    "prompt": "Import the prompt of a published repository.",
    "demo": "Data, evaluation, training, merging, evaluation, answers, a second training for reasoning, and a page.",
    "completion": "Completion of commands and options with the Tab key.",
}


def _call(arguments: Sequence[str]) -> int:
    name, *rest = arguments
    name = name.replace("_", "-")
    if name not in COMMANDS:
        raise unknown_command("command", name, COMMANDS)
    require_base(f"{PROGRAM} {name}")
    code: int = import_module(module_of(name)).main(rest)
    return code


def module_of(command: str) -> str:
    """The module of a command of :data:`COMMANDS`."""
    return f"seg_zero.cli.{command.replace('-', '_')}"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["--version"]:
        print(f"{PROGRAM} {__version__}")
        return 0
    if arguments[:1] == ["help"] and len(arguments) > 1:  # `help infer`
        arguments = [*arguments[1:], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(f"usage: {PROGRAM} COMMAND [options]\n")
        for name, text in COMMANDS.items():
            print(f"  {name:<16}{text}")
        print(f"\n`{PROGRAM} COMMAND --help` shows the options, `{PROGRAM} --version` the version.")
        return 0 if arguments else 2
    return run_command(_call, arguments)
