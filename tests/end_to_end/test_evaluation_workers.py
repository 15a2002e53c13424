"""Several evaluation workers on Ray give the results of one, also when one of them is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers import background
from helpers.background import Background, needs

from seg_zero.data.synthetic.rows import HELD_OUT_SEED, write_split

pytestmark = pytest.mark.timeout(900)


def command(folder: Path, *more: str) -> list[str]:
    rows = folder.parent / "evaluation_rows.parquet"  # of both jobs: its name and age are part of the results
    if not rows.is_file():
        write_split(rows, HELD_OUT_SEED, 260)
    words = ["evaluate", "--data", str(rows), "--out", str(folder / "out"), "--max_new_tokens", "96"]
    return [sys.executable, "-m", "seg_zero.cli", *words, *more]


def alone(folder: Path) -> Path:
    """The folder of results."""
    result = background.run(command(folder), 280)
    assert result.returncode == 0, result.stderr
    return folder / "out"


def two_workers_one_killed(folder: Path) -> Path:
    """The folder of results of two workers, one of which was killed after it had written some."""
    process = background.start(command(folder, "--workers", "2", "--batch_size", "5"), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list((folder / "out" / "parts").glob("*.jsonl")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    next(child for child in children if "ray::_Worker" in " ".join(child.cmdline())).kill()
    out, error = process.communicate(timeout=200)
    assert process.returncode == 0, error
    assert "died; its" in out
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    return folder / "out"


@needs(alone, two_workers_one_killed)
def test_a_killed_worker_changes_nothing(finished: Background) -> None:
    for name in ("predictions.jsonl", "metrics.json"):
        assert (finished(two_workers_one_killed) / name).read_bytes() == (finished(alone) / name).read_bytes()
