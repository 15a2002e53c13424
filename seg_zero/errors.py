"""How a command speaks and ends: the exception for bad input, an error in one line, counts, and the exit code."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Callable, Sequence

BAD_INPUT, INTERRUPTED = 2, 130
# By number of a system error: what helps a user who cannot write to a place, for no room, no permission or too
# long a name.
PLACE_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space there"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "change its permissions"),
    errno.ENAMETOOLONG: "shorten the name",
}


class InputError(ValueError):
    """Bad input from the user: the message names the thing, the value and the remedy."""


def one_line(error: object, limit: int = 160) -> str:
    """The start of an error's message, up to ``limit`` characters, without line breaks; its type if it has none."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def counted(count: int, noun: str) -> str:
    """A number of things, as in "1 row" and "2,000 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def print_error(message: object, *details: str) -> None:
    """Print ``error: message`` to standard error, then each detail on an indented line of its own."""
    print(f"error: {message}", *details, sep="\n  ", file=sys.stderr, flush=True)


def print_warning(message: str | None) -> None:
    """Print ``warning: message`` to standard error; nothing for None."""
    if message is not None:
        print(f"warning: {message}", file=sys.stderr, flush=True)


def print_note(message: str) -> None:
    """Print ``note: message`` to standard error."""
    print(f"note: {message}", file=sys.stderr, flush=True)


def run_command(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a command with these arguments (default: the process's own) and return its exit code.

    Bad input, a full disk, a lack of permission and too long a name are one line on standard error and code 2; Ctrl-C
    is "stopped" there and code 130, without a traceback. A command that has more to say about a stop raises
    KeyboardInterrupt with it. A reader that closes standard output early, as ``| head``, ends it with code 1.
    """
    for stream in (sys.stdout, sys.stderr):  # names of files may hold what the stream's encoding lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = command(sys.argv[1:] if argv is None else argv)
        print(end="", flush=True)
        return code
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        return 1
    except InputError as error:
        print_error(error)
        return BAD_INPUT
    except OSError as error:
        if error.errno not in PLACE_REMEDIES or error.filename is None:
            raise
        remedy = PLACE_REMEDIES[error.errno]
        print_error(f"{error.filename} cannot be used ({error.strerror}); {remedy} or give another place")
        return BAD_INPUT
    except KeyboardInterrupt as stop:
        after = "\n" if sys.stderr.isatty() else ""  # the ^C that the terminal shows
        print(f"{after}{str(stop) or 'stopped'}", file=sys.stderr, flush=True)
        return INTERRUPTED


def _output_is_closed() -> bool:
    """Whether nobody reads standard output any more; what is left to be written is then dropped."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):  # no file, as under a notebook, or closed
        return False
    poll = select.poll()
    poll.register(output, select.POLLOUT)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        return False
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), output)
    return True
