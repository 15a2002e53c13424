"""``python -m seg_zero.training.launch``: see :mod:`seg_zero.training.launch.start`."""

from __future__ import annotations

import sys

from seg_zero.errors import InputError
from seg_zero.training.launch.start import launch


def main() -> None:
    try:
        code = launch(sys.argv[1:])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    sys.exit(code)


if __name__ == "__main__":
    main()
