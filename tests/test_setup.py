"""Set-up says what is wrong and what to do, and leaves no half-made environment behind that looks finished."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NO_REGISTRY = {
    "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple",
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_RETRIES": "0",
    "UV_HTTP_RETRIES": "0",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / "training_scripts").mkdir()
    shutil.copy(ROOT / "training_scripts" / "setup_env.sh", tmp_path / "training_scripts")
    shutil.copy(ROOT / "setup.py", tmp_path)
    return tmp_path


def set_up(tree: Path, **environment: str) -> tuple[int, str]:
    base = {key: value for key, value in os.environ.items() if key not in ("PYTHON", "VARIANT")}
    done = subprocess.run(
        [str(tree / "training_scripts" / "setup_env.sh")],
        env={**base, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def test_unsupported_python_is_named(tree: Path) -> None:
    code, errors = set_up(tree, PYTHON="/bin/false")
    assert code == 1 and "PYTHON=/bin/false is not a Python 3.10, 3.11 or 3.12" in errors and "remedy:" in errors


def test_no_python_at_all_is_said(tree: Path) -> None:
    tools = tree / "bin"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "cat", "cksum", "grep", "df", "awk"):
        (tools / name).symlink_to(shutil.which(name) or name)
    code, errors = set_up(tree, PATH=str(tools))
    assert code == 1 and "no Python 3.10, 3.11 or 3.12 found" in errors and "remedy:" in errors


def test_unknown_variant_is_named(tree: Path) -> None:
    code, errors = set_up(tree, VARIANT="tpu")
    assert code == 1 and "unknown VARIANT 'tpu'" in errors and "remedy:" in errors


def test_full_disk_is_found_before_anything_is_made(tree: Path) -> None:
    tools = tree / "bin"
    tools.mkdir()
    (tools / "df").write_text("#!/bin/sh\necho header\necho disk 100 99 1048576 99% /\n")
    (tools / "df").chmod(0o755)
    code, errors = set_up(tree, PATH=f"{tools}:{os.environ['PATH']}", PYTHON=sys.executable, VARIANT="cpu")
    assert code == 1 and "only 1 GB free" in errors and "remedy:" in errors
    assert not (tree / ".venv").exists()


def test_unreachable_registry_is_said_and_set_up_stays_undone(tree: Path) -> None:
    cache = {"UV_CACHE_DIR": str(tree / "cache"), "PIP_CACHE_DIR": str(tree / "pip_cache")}
    code, errors = set_up(tree, PYTHON=sys.executable, VARIANT="cpu", **NO_REGISTRY, **cache)
    assert code == 1 and "remedy: check" in errors
    assert not (tree / ".venv" / ".seg-zero-setup").exists()
