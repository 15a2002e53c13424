"""Ctrl-C reaches only this process, not the processes that vLLM starts from it.

A terminal sends Ctrl-C to all of them, and vLLM's engine, which installs its own handler, exits at once and drops its
requests. vllm 0.24.0 has no option against that; this can go when it has.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def interrupts_kept_from_children() -> Iterator[None]:
    """Processes started inside never get SIGINT: they inherit a mask that their handlers do not change.

    For the main thread. Ctrl-C still works here, because another thread, without the mask, takes the signal.
    """
    leave = threading.Event()
    taker = threading.Thread(target=leave.wait, name="takes SIGINT", daemon=True)
    taker.start()
    resource_tracker.ensure_running()  # its start, by the first process otherwise, takes SIGINT out of the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        leave.set()
