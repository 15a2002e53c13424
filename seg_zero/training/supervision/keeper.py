"""Parent of everything a run starts: nothing below it outlives it, and it does not outlive the launcher.

    python -m seg_zero.training.supervision.keeper COMMAND ...

Ray and vLLM start processes whose parents may die first; here they stay within reach (Linux). When the
command ends, or the launcher is killed or requests it, the keeper ends every process below itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType

from seg_zero.training.supervision import processes


def _end(signum: int, _frame: FrameType | None) -> None:
    # Linux sends the parent-death signal again for each thread of a killed launcher, also while this ends the rest.
    signal.signal(signum, signal.SIG_IGN)
    raise SystemExit(128 + signum)


def main(command: list[str]) -> int:
    signal.signal(signal.SIGTERM, _end)
    parent = os.getppid()
    processes.adopt_orphans()
    processes.end_with_parent()
    if os.getppid() != parent:
        return 1  # the launcher ended meanwhile
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        processes.kill_descendants()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
