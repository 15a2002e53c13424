"""A user without a name and a home, as in a container that runs under a bare number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE = """
import pwd
def nobody(uid): raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = nobody
import seg_zero
import getpass, os, pathlib
import torch._dynamo.config
from seg_zero.data.cache import cache_folder
from torch._inductor.runtime.cache_dir_utils import default_cache_dir
print(getpass.getuser(), pathlib.Path.home(), cache_folder(), default_cache_dir(), sep="\\n")
"""


def test_a_user_without_passwd_entry_name_and_home_gets_them(tmp_path: Path) -> None:
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CODE], env=known, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    name, home, cache, _ = done.stdout.split()
    assert name == str(os.getuid())
    assert Path(home).parent == tmp_path and Path(home).stat().st_mode & 0o777 == 0o700
    assert Path(cache) == Path(home, ".cache", "seg_zero")
    given = {**known, "USER": "me", "HOME": str(tmp_path / "mine")}
    done = subprocess.run([sys.executable, "-c", CODE], env=given, capture_output=True, text=True, timeout=120)
    assert done.stdout.split()[:2] == ["me", str(tmp_path / "mine")], done.stderr
