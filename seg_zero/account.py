"""A name and a home for a user who has neither, as in a container that runs under a bare number."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path

_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")  # where Python's getpass looks before it asks for the passwd entry


def complete_account() -> None:
    """Set USER and HOME for this process and those it starts, where the system knows neither.

    torch asks for the user's name when it is imported, and caches lie in the home folder, which is then a folder of
    this user's own among the temporary files.
    """
    try:
        pwd.getpwuid(os.getuid())
        return
    except KeyError:
        pass
    if not any(os.environ.get(name) for name in _NAMES):
        os.environ["USER"] = str(os.getuid())
    if not os.environ.get("HOME"):
        os.environ["HOME"] = str(_own_folder())


def _own_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"seg_zero-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid == os.getuid() and not folder.is_symlink():
            return folder
    except OSError:
        pass  # somebody else's
    return Path(tempfile.mkdtemp(prefix="seg_zero-"))
