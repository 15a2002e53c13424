"""Atomic writing: a file is complete or absent."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from seg_zero.errors import PLACE_REMEDIES, InputError

_SOCKET = 107  # bytes in the path of a socket on Linux
RAY_SOCKETS = 70  # what Ray, vLLM and Python's own processes put behind the folder for temporary files
_NUMBER = re.compile(r"(?:os error|[Ee]rrno) (\d+)")  # in the messages of libraries that raise errors of their own


def shown(path: str | Path) -> str:
    """A path as text that any file can hold: bytes that are not UTF-8 are escaped, as in ``caf\\xe9``."""
    try:
        return os.fsencode(path).decode("utf-8", errors="backslashreplace")
    except UnicodeEncodeError:  # half a character that no file system holds
        return str(path).encode("utf-8", errors="backslashreplace").decode("utf-8")


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Raises InputError with the remedy if what happens inside fails for a full disk or for want of permission."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = _NUMBER.search(str(error))
        number = (error.errno if isinstance(error, OSError) else int(said[1]) if said else None) or 0
        remedy = PLACE_REMEDIES.get(number)
        if remedy is None:
            raise
        name = error.filename if isinstance(error, OSError) else None
        other = name is not None and not str(name).startswith(str(place.parent))
        raise InputError(
            f"{name if other else place} cannot be {'used' if other else 'written'} ({os.strerror(number)}); {remedy} "
            "or give another place, and run the command again"
        ) from error


def short_temporary_folder(room: int) -> Path:
    """A folder for sockets, whose paths hold 107 bytes: that for temporary files, or /tmp if ``room`` more do not fit.

    Raises InputError if there is neither.
    """
    for folder in (tempfile.gettempdir(), "/tmp"):
        if len(os.fsencode(folder)) + room <= _SOCKET and os.access(folder, os.W_OK | os.X_OK):
            return Path(folder)
    raise InputError(
        f"TMPDIR={tempfile.gettempdir()} is too long for the paths of sockets, and /tmp cannot be written; set TMPDIR "
        "to a folder with a short path"
    )


def check_file_place(path: Path) -> None:
    """Raises InputError if no file can be written at ``path``: it is a folder, or what is above it takes no files."""
    with writing(path):
        if path.is_dir():
            remedy = "give another name" if path.suffix else f"give the name of a file, such as {path / 'out'}"
            raise InputError(f"{path} is a folder; {remedy}")
        _check_above(path)


def check_folder_place(path: Path) -> None:
    """Raises InputError if ``path`` can be no folder with new files in it."""
    with writing(path):
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; give the name of a folder")
        _check_above(path)


def make_folder(path: Path) -> Path:
    """Make a folder and those above it. Raises InputError where none can be."""
    check_folder_place(path)
    _make(path, path)
    return path


def _make(folder: Path, place: Path) -> None:
    """Make ``folder``, which is needed for ``place``."""
    with writing(place):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno in PLACE_REMEDIES:
                raise
            raise InputError(
                f"{place} cannot be written, as the folder {folder} cannot be made ({error.strerror}); give another "
                "place"
            ) from error


def _check_above(path: Path) -> None:
    folders = path.absolute().parents
    above = path if path.is_dir() else next(folder for folder in folders if folder.exists())
    if not above.is_dir():
        raise InputError(f"{path} cannot be written, as {above} is a file and no folder; give another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be written, as {above} is not writable; give another place")
    try:  # /proc and some network disks refuse although the permissions allow it
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise InputError(
            f"{path} cannot be written, as {above} takes no new files ({error.strerror}); give another place"
        ) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it becomes ``path`` at the end, or goes if that fails.

    Missing folders are made. Raises InputError if ``path`` cannot be a file, and for a full disk.
    """
    check_file_place(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    _make(path.parent, path)
    with writing(path):
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, busy: str, wait_seconds: float = 0.0, waiting: str = "") -> Iterator[int]:
    """Hold the lock file ``path``; yields its descriptor, which a child may share.

    Raises InputError(busy) if another process holds it and does not let go in ``wait_seconds``; ``waiting`` is printed
    before the wait.
    """
    with writing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    deadline, told = time.monotonic() + wait_seconds, False
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() >= deadline:
                    raise InputError(busy) from error
                if not told:
                    print(waiting, flush=True)
                    told = True
                time.sleep(0.5)
        yield descriptor
    finally:
        os.close(descriptor)


def read_text(path: Path) -> str:
    """A UTF-8 text, without the byte-order mark that some editors put before it. Raises OSError, UnicodeDecodeError."""
    return path.read_text(encoding="utf-8-sig")


def read_lines(path: Path) -> list[str]:
    """The lines of a text, read as :func:`read_text`, without empty ones; only a line feed ends a line."""
    return [line for line in read_text(path).split("\n") if line]


def read_json(path: Path) -> Any:
    """The content of a JSON file, read as :func:`read_text`. Raises OSError, and ValueError for what is no JSON."""
    try:
        return json.loads(read_text(path))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def write_bytes(path: Path, data: bytes) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8; halves of characters, as names of files may hold, are escaped."""
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_image(path: Path, image: Image.Image) -> None:
    """Write a picture in the format of the file's ending (PNG if Pillow does not support it)."""
    suffix = path.suffix.lower()
    kind = Image.registered_extensions().get(suffix, "PNG")
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    write_bytes(path, buffer.getvalue())
