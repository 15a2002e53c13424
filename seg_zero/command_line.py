"""The argument parser of every command: one line for bad input, `-` and `_` alike, defaults in the help."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from seg_zero.errors import InputError

PROGRAM = "seg-zero"
_SCRIPTS = ("infer.py", "model_merger.py")  # each is one command
_INVALID_CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)", re.DOTALL)


def program(command: str) -> str:
    """How the user typed ``seg-zero COMMAND``: a script of the checkout, a module after -m, or the command itself."""
    called, typed = Path(sys.argv[0]), sys.orig_argv
    if called.name in _SCRIPTS:
        return f"{Path(typed[0]).name} {sys.argv[0]}"
    if called.name == "__main__.py" and "-m" in typed:
        module = typed[typed.index("-m") + 1]
        if not module.startswith("seg_zero."):  # pytest, which calls the commands itself
            return f"{PROGRAM} {command}"
        return f"{Path(typed[0]).name} -m {module}" + (f" {command}" if module.endswith(".cli") else "")
    return f"{PROGRAM} {command}"


def quoted(value: object) -> str:
    """A value as a text in a Hydra override, whatever characters it has that Hydra would read as syntax."""
    # A backslash counts only before a quote.
    text = re.sub(r"(\\*)'", r"\1\1\\'", str(value))
    return "'" + re.sub(r"(\\+)$", r"\1\1", text) + "'"


def did_you_mean(wrong: str, names: Iterable[str]) -> str:
    """``; did you mean NAME?`` for the nearest of ``names``, empty if none is near."""
    near = difflib.get_close_matches(wrong, list(names), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def unknown_command(kind: str, wrong: str, names: Iterable[str]) -> InputError:
    """The error for a command that does not exist; ``kind``: "command", "data command" and the like."""
    known = list(names)
    all_of_them = f"; choose one of {', '.join(known)}" if len(known) > 1 else f"; the only one is {known[0]}"
    nearest = did_you_mean(wrong, known) or all_of_them
    return InputError(f"unknown {kind} {wrong!r}{nearest}")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default of an option to its help, unless it is none, a flag's, or said there in words."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, []) or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


class CommandParser(argparse.ArgumentParser):
    """``argparse``'s parser of one command, e.g. "infer" or "data check".

    ``--image-path`` and ``--image_path`` are one option. What argparse would report with its usage and exit is
    raised as InputError, with the nearest option or choice.
    """

    def __init__(self, command: str, description: str | None) -> None:
        super().__init__(prog=program(command), description=description, formatter_class=_Help)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        given = list(sys.argv[1:] if args is None else args)
        end = given.index("--") if "--" in given else len(given)
        return super().parse_known_args([*map(self._as_declared, given[:end]), *given[end:]], namespace)

    def error(self, message: str) -> NoReturn:
        chosen = _INVALID_CHOICE.search(message)
        if chosen is not None:
            message += did_you_mean(chosen[1], re.findall(r"'(.*?)'", chosen[2]))
        raise InputError(f"{message} (`{self.prog} --help` shows the options)")

    def _as_declared(self, word: str) -> str:
        """A long option as it was declared, whichever of - and _ the user typed; other words as they are."""
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name == "--" or " " in name:  # argparse takes words with spaces for values
            return word
        declared = [option for option in self._option_string_actions if option.startswith("--")]
        wanted = name.replace("_", "-")
        for option in declared:
            if option.replace("_", "-") == wanted:
                return option + equals + value
        begun = [option for option in declared if option.replace("_", "-").startswith(wanted)]
        if begun:  # an abbreviation, which argparse completes or calls ambiguous
            return begun[0][: len(name)] + equals + value
        shown = [option for option in declared if self._option_string_actions[option].help != argparse.SUPPRESS]
        nearest = did_you_mean(name, shown) or f"; `{self.prog} --help` shows the options"
        raise InputError(f"unknown option {name}{nearest}")
