"""How a command ends: the exception for bad input, the one line that an error is, and the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

BAD_INPUT, INTERRUPTED = 2, 130


class InputError(ValueError):
    """Bad input from the user: the message names the thing, the value and the remedy."""


def one_line(error: object, limit: int = 160) -> str:
    """The start of an error's message, up to ``limit`` characters, without line breaks; its type if it has none."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def print_error(message: object, *details: str) -> None:
    """Print ``error: message`` to standard error, then each detail on an indented line of its own."""
    print(f"error: {message}", *details, sep="\n  ", file=sys.stderr, flush=True)


def print_warning(message: str | None) -> None:
    """Print ``warning: message`` to standard error; nothing for None."""
    if message is not None:
        print(f"warning: {message}", file=sys.stderr, flush=True)


def run_command(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a command with these arguments (default: the process's own) and return its exit code.

    Bad input is one line on standard error and code 2; Ctrl-C is code 130, without a traceback.
    """
    try:
        return command(sys.argv[1:] if argv is None else argv)
    except InputError as error:
        print_error(error)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
