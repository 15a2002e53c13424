"""Atomic writing: a file is complete or absent."""

from __future__ import annotations

import fcntl
import io
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from seg_zero.errors import InputError


def check_file_place(path: Path) -> None:
    """Raises InputError if no file can be written at ``path``: it is a folder, or something above it is a file."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file, such as {path / 'out'}")
    _check_above(path)


def check_folder_place(path: Path) -> None:
    """Raises InputError if ``path``, or something above it, is a file."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; give the name of a folder")
    _check_above(path)


def make_folder(path: Path) -> Path:
    """Make a folder and those above it. Raises InputError where none can be."""
    check_folder_place(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def _check_above(path: Path) -> None:
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise InputError(f"{path} cannot be written, as {above} is a file and no folder; give another place")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it becomes ``path`` at the end, or goes if that fails.

    Missing folders are made. Raises InputError if ``path`` cannot be a file.
    """
    check_file_place(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
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
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_image(path: Path, image: Image.Image) -> None:
    """Write a picture in the format of the file's ending (PNG if Pillow does not support it)."""
    suffix = path.suffix.lower()
    kind = Image.registered_extensions().get(suffix, "PNG")
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    write_bytes(path, buffer.getvalue())
