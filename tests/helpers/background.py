"""Jobs of the end-to-end tests, run in the background while the tests that need earlier ones go on.

A test names its jobs, functions of an empty folder, and asks for their results:

    @needs(trained)
    def test_weights(finished: Background) -> None:
        assert finished(trained).weights

A job that several tests name runs once. Jobs of deselected tests do not run.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

T = TypeVar("T")
Job = Callable[[Path], T]
AT_ONCE = 2  # a training run with two workers takes about 6 GiB

_running: dict[subprocess.Popen[str], int] = {}  # and the thread of the job that started it
_closed = threading.Event()


def needs(*jobs: Job[Any]) -> pytest.MarkDecorator:
    """Marks a test with the jobs whose results it asks for."""
    return pytest.mark.background.with_args(*jobs)


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """A process that ends with its job at the latest; its output is piped, and its errors with it if not told else."""
    if _closed.is_set():
        raise RuntimeError("the tests are over")
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
    process: subprocess.Popen[str] = subprocess.Popen(command, text=True, start_new_session=True, **options)
    _running[process] = threading.get_ident()
    return process


def run(
    command: Sequence[str], timeout: float, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Like ``subprocess.run`` with captured output, for a job."""
    process = start(command, stderr=subprocess.PIPE, env=env)
    try:
        out, errors = process.communicate(timeout=timeout)
    finally:
        end(process)
    return subprocess.CompletedProcess(list(command), process.returncode, out, errors)


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process and all below it, if any is left."""
    if process.poll() is None:
        below = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        for child in below:
            if child.is_running():
                child.kill()
    _running.pop(process, None)


def _run_job(job: Job[T], folder: Path) -> T:
    try:
        return job(folder)
    finally:
        for process in [process for process, thread in list(_running.items()) if thread == threading.get_ident()]:
            end(process)


class Background:
    """Runs jobs in the order given, ``AT_ONCE`` at a time. ``folder`` makes an empty folder from a name."""

    def __init__(self, jobs: Iterable[Job[Any]], folder: Callable[[str], Path]) -> None:
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="job")
        _closed.clear()
        self._results: dict[Job[Any], Future[Any]] = {
            job: self._pool.submit(_run_job, job, folder(f"job{number}"))
            for number, job in enumerate(dict.fromkeys(jobs))
        }

    def __call__(self, job: Job[T]) -> T:
        """The result of a job, once it is there; raises what the job raised."""
        result: T = self._results[job].result()
        return result

    def close(self) -> None:
        """Drop the jobs that have not begun and end the processes of those that have."""
        _closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in list(_running):
            end(process)
        self._pool.shutdown()
