"""``python -m seg_zero.training.launch``: see :mod:`seg_zero.training.launch.start`."""

from __future__ import annotations

import sys

from seg_zero.errors import run_command
from seg_zero.training.launch.options import train


def main() -> None:
    code = run_command(train)
    sys.stdout.flush()
    sys.exit(code)


if __name__ == "__main__":
    main()
