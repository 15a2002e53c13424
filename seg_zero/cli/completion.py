"""``seg-zero completion SHELL``: the script with which a shell completes commands and options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from seg_zero.cli.main import COMMANDS, module_of
from seg_zero.command_line import PROGRAM, CommandParser

SHELLS = ("bash", "zsh", "tcsh")
# Options whose values are files or folders, beside those of the type Path.
_PATHS = {"image_path", "inputs", "out", "root", "images", "instances", "refs", "questions", "data", "name"}
_PATHS |= {
    "reasoning_model_path",
    "segmentation_model_path",
    "prompt_template",
    "base_model",
    "image",
    "backbone",
    "labels",
}


def parser() -> CommandParser:
    made = CommandParser(
        "completion",
        f'Print completion for a shell: eval "$({PROGRAM} completion bash)" in ~/.bashrc; for zsh, a file _{PROGRAM} '
        "in a folder of $fpath (docs/install.md).",
    )
    made.add_argument("shell", choices=SHELLS, help="your shell")
    return made


def all_commands() -> argparse.ArgumentParser:
    """One parser of all commands with their options: a command's module has ``parser()`` or, by name, ``parsers()``."""
    root = argparse.ArgumentParser(prog=PROGRAM)
    root.add_argument("--version", action="store_true", help="print the version")
    commands = root.add_subparsers()
    for name, text in COMMANDS.items():
        module = import_module(module_of(name))
        if not hasattr(module, "parsers"):
            commands.add_parser(name, parents=[module.parser()], add_help=False, help=text)
            continue
        below = commands.add_parser(name, help=text).add_subparsers()
        for inner, made in module.parsers().items():
            below.add_parser(inner, parents=[made], add_help=False, help=made.description)
    return root


def _mark_paths(parser: argparse.ArgumentParser, files: object) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _mark_paths(inner, files)
        elif action.choices is None and (action.type is Path or action.dest in _PATHS):
            action.complete = files  # type: ignore[attr-defined]


def main(argv: Sequence[str]) -> int:
    """Print the completion script of a shell."""
    args = parser().parse_args(argv)
    import shtab

    root = all_commands()
    _mark_paths(root, shtab.FILE)
    print(shtab.complete(root, args.shell))
    return 0
