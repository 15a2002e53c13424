"""An environment with the project's wheel and no more third-party packages than it asks for; needs no network.

The packages are links to those of the running environment, chosen as an installer would from what the wheel declares.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.metadata import Distribution, PackageNotFoundError, PathDistribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
_FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff")
_SOURCES = ("seg_zero", "rewards", "configs")
_BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, f"build_{sys.argv[1]}")(sys.argv[2]), file=sys.stderr)
"""


def build(kind: str, source: Path, out: Path) -> Path:
    """Build the "wheel" or the "sdist" of a copy of the project in ``source`` into the folder ``out``."""
    subprocess.run([sys.executable, "-c", _BUILD, kind, str(out)], cwd=source, check=True, capture_output=True)
    (made,) = out.glob({"wheel": "*.whl", "sdist": "*.tar.gz"}[kind])
    return made


def copy_project(target: Path) -> Path:
    """What a build reads, links as links; building in the checkout itself would leave files there."""
    target.mkdir()
    for name in _FILES:
        shutil.copy(ROOT / name, target)
    for name in _SOURCES:
        shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def _needed(start: Distribution, extras: Sequence[str]) -> dict[str, Distribution]:
    """All distributions that an installer would add for ``start`` with these extras, by name."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    left = [(start, extra) for extra in ("", *extras)]
    while left:
        package, extra = left.pop()
        for text in package.requires or ():
            wanted = Requirement(text)
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
                continue
            name = wanted.name.lower().replace("_", "-")
            for further in ("", *wanted.extras):
                if (name, further) in seen:
                    continue
                seen.add((name, further))
                try:
                    found.setdefault(name, distribution(name))
                except PackageNotFoundError:
                    if package is start:
                        raise
                    continue  # as in the pinned files, which hold all that is used
                left.append((found[name], further))
    return found


def install(wheel: Path, folder: Path, extras: Sequence[str] = ()) -> Path:
    """Make a virtual environment in ``folder`` with the wheel and what it needs; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (info,) = packages.glob("seg_zero-*.dist-info")
    for package in _needed(PathDistribution(info), extras).values():
        entries = {Path(file.parts[0]) for file in package.files or () if file.parts[0] not in ("..", "__pycache__")}
        for entry in entries:
            link = packages / entry
            if not link.exists():
                link.symlink_to(Path(str(package.locate_file(entry))).resolve())
    return folder / "bin" / "python"


def run(python: Path, code: str, arguments: Sequence[object], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run code with this interpreter in ``cwd``, without the checkout on its path."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["HF_HUB_OFFLINE"] = "1"
    command = [str(python), "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
