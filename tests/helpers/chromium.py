"""A Chromium for the browser tests: finds one, and as a script installs one where it can.

    python tests/helpers/chromium.py

As root on Debian its package ``chromium``; otherwise the build that playwright downloads.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Path of a browser on this machine: the system's, or else playwright's own."""
    for name in NAMES:
        path = shutil.which(name)
        # Ubuntu's package is a script that asks for a snap.
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).is_file() else None


def install() -> str | None:
    """Install a browser if there is none; returns its path, or None if nothing worked."""
    if (found := find_chromium()) is not None:
        return found
    root = os.geteuid() == 0
    if root and shutil.which("apt-get"):
        options = ["-qq", "--yes", "--no-install-recommends"]
        for command in (["apt-get", "-qq", "update"], ["apt-get", "install", *options, NAMES[0]]):
            subprocess.run(command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=False)
        if (found := find_chromium()) is not None:
            return found
    own = [sys.executable, "-m", "playwright", "install", *(["--with-deps"] if root else []), "chromium"]
    subprocess.run(own, check=False)
    return find_chromium()


def main() -> int:
    found = install()
    if found is None:
        print("no Chromium could be installed (see above): the browser tests will be skipped", file=sys.stderr)
    else:
        print(f"browser for the tests: {found}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
