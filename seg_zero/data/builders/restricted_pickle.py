"""Pickles of plain data, read without running anything that they contain."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

from seg_zero.errors import InputError

# Containers that old pickle protocols can only write as a call of their type; Python 2 calls the module __builtin__.
_MODULES = ("builtins", "__builtin__")
_CONTAINERS: dict[str, type] = {"set": set, "frozenset": frozenset}
_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    MemoryError,
    RecursionError,
)


class ForbiddenGlobal(Exception):
    """The pickle names something that is not plain data."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _MODULES and name in _CONTAINERS:
            return _CONTAINERS[name]
        raise ForbiddenGlobal(f"{module}.{name}")


def read_plain_pickle(path: Path) -> Any:
    """Dicts, lists, tuples, sets, text, bytes, numbers, booleans and None from a pickle of any protocol.

    Byte strings of Python 2 become text: UTF-8, or Latin-1 in a file that is not UTF-8. Raises InputError
    for a missing or damaged file and for one that names anything else, which is neither imported nor called.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"pickle {path} cannot be read ({error.strerror}); check the path") from error
    try:
        try:
            return _PlainUnpickler(io.BytesIO(data), encoding="utf-8").load()
        except UnicodeDecodeError:
            return _PlainUnpickler(io.BytesIO(data), encoding="latin-1").load()
    except ForbiddenGlobal as error:
        raise InputError(
            f"pickle {path} names {error}, which is not plain data, and was not loaded; "
            "use the original archive or a JSON export of it"
        ) from error
    except _DAMAGE as error:
        raise InputError(f"{path} is not a whole pickle ({error or 'it ends early'}); download it again") from error
