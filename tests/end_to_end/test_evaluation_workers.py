"""Several evaluation workers on Ray give the results of one, also when one of them is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from seg_zero.data.synthetic.rows import HELD_OUT_SEED, write_split

pytestmark = pytest.mark.timeout(300)


def test_a_killed_worker_changes_nothing(tmp_path: Path) -> None:
    write_split(tmp_path / "rows.parquet", HELD_OUT_SEED, 260)

    def command(out: str, *more: str) -> list[str]:
        words = ["evaluate", "--data", str(tmp_path / "rows.parquet"), "--out", str(tmp_path / out)]
        return [sys.executable, "-m", "seg_zero.cli", *words, "--max_new_tokens", "96", *more]

    alone = subprocess.run(command("alone"), capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stderr
    process = subprocess.Popen(
        command("two", "--workers", "2", "--batch_size", "5"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "two" / "parts").glob("*.jsonl")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    next(child for child in children if "ray::_Worker" in " ".join(child.cmdline())).kill()
    out, error = process.communicate(timeout=200)
    assert process.returncode == 0, error
    assert "died; its" in out
    for name in ("predictions.jsonl", "metrics.json"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
