"""Starts a training process and makes sure that no process of it survives."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
# Titles that Ray and vLLM give to their processes, and what a person would call them.
_ESSENTIAL = {
    "ray::TaskRunner": "the trainer",
    "ray::WorkerDict": "an FSDP worker",
    "ray::AgentLoopWorker": "a rollout worker",
    "ray::vLLMHttpServer": "the vLLM server",
    "VLLM::EngineCore": "the vLLM engine",
    "VLLM::Worker": "a vLLM worker",
    "ray::RewardLoopWorker": "a reward worker",
    "ray::TransferQueueController": "the sample queue",
    "ray::SimpleStorageUnit": "a storage unit of the sample queue",
    "raylet": "Ray",
}
_SHARED_MEMORY = Path("/dev/shm")
# Python's shared memory, vLLM's tensor-parallel channel on CPU, verl's weight buckets.
_SHARED_PATTERNS = ("psm_*", "*cpushm_*", "verl_weights_*")
_KILL_SECONDS = 30.0  # how long a killed process may take to end: it gives back its memory first
_SETTLED_SECONDS = 1.0  # a file exists for a moment before its maker maps it


def adopt_orphans() -> None:
    """Become the parent of every orphaned descendant (Linux), so that none escapes :func:`kill_descendants`.

    Ray and vLLM start processes whose parents may die first.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent() -> None:
    """Get SIGTERM when the parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def start(command: Sequence[str], environment: Mapping[str, str], log: Path, lock: int) -> subprocess.Popen[bytes]:
    """Start a command with its output appended to ``log``; it shares the descriptor ``lock``.

    It gets its own session, so that Ctrl-C reaches only the launcher, which then requests an orderly end.
    """
    with log.open("ab") as stream:
        return subprocess.Popen(
            command,
            env=dict(environment),
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(lock,),
        )


def essential() -> dict[int, str]:
    """Processes below this one without which a run cannot continue: process id to description."""
    found: dict[int, str] = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            title = " ".join(process.cmdline())
            name = next((what for prefix, what in _ESSENTIAL.items() if title.startswith(prefix)), None)
            if name is not None and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = name
    return found


def private_memory() -> dict[str, float]:
    """Private memory of the processes below this one, as a metric in GiB."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            memory = process.memory_info()
            total += memory.rss - getattr(memory, "shared", 0)
    return {"perf/run_private_memory_gib": total / 2**30}


def kill_descendants(grace_seconds: float = 5.0) -> None:
    """End every process below this one.

    They get SIGTERM first and are killed after ``grace_seconds``. A scan can miss the children of a process that ends
    meanwhile, and a process can start others while it ends, so the work is done after two empty scans in a row.
    """
    asked: set[psutil.Process] = set()
    empty_looks, start = 0, time.monotonic()
    while empty_looks < 2:
        waited = time.monotonic() - start
        if waited > grace_seconds + _KILL_SECONDS:
            break  # the kernel does not let go of them
        found = psutil.Process().children(recursive=True)
        empty_looks = 0 if found else empty_looks + 1
        for process in found:
            if waited >= grace_seconds:
                _signal(process, force=True)
            elif process not in asked:
                _signal(process, force=False)
        asked.update(found)
        psutil.wait_procs(found, timeout=0.5)


def _signal(process: psutil.Process, force: bool) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill() if force else process.terminate()


def _mapped_files() -> set[str]:
    """Names in /dev/shm that some process has mapped or open."""
    names: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for line in (process / "maps").read_text().splitlines():
                if str(_SHARED_MEMORY) in line:
                    names.add(Path(line.split(maxsplit=5)[5].removesuffix(" (deleted)")).name)
            names.update(Path(os.readlink(fd)).name for fd in (process / "fd").iterdir())
        except OSError:
            continue  # it ended, or belongs to another user
    return names


def remove_shared_memory(since: float) -> int:
    """Remove this user's leftover shared-memory files made after ``since`` (Unix time) that nobody uses."""
    listed = time.time()
    files = [path for pattern in _SHARED_PATTERNS for path in _SHARED_MEMORY.glob(pattern)]
    if not files:
        return 0
    used, removed = _mapped_files(), 0
    for path in files:
        try:
            status = path.stat()
            settled = since <= status.st_ctime <= listed - _SETTLED_SECONDS
            if status.st_uid == os.getuid() and settled and path.name not in used:
                path.unlink()
                removed += 1
        except FileNotFoundError:
            continue
    return removed
