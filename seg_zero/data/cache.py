"""Results cached between runs, in ``$XDG_CACHE_HOME/seg_zero`` (default ``~/.cache/seg_zero``).

If a file is damaged or cannot be written, its value is computed again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from seg_zero.errors import InputError
from seg_zero.files import write_bytes

T = TypeVar("T")


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "seg_zero"


def remembered(
    kind: str, key: str, compute: Callable[[], T], encode: Callable[[T], bytes], decode: Callable[[bytes], T]
) -> tuple[T, bool]:
    """The value cached under (kind, key), else ``compute()``, which is then cached; and whether it was cached.

    ``key`` is a digest of everything the value depends on. ``decode`` raises ValueError for damaged bytes.
    """
    path = cache_folder() / kind / key
    try:
        return decode(path.read_bytes()), True
    except (OSError, ValueError):
        value = compute()
    try:
        write_bytes(path, encode(value))
    except (OSError, InputError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        print(f"cannot keep results in {path.parent} ({reason}); they will be computed again", file=sys.stderr)
    return value, False
