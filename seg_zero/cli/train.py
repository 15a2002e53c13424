"""The command ``seg-zero train``, also ``python -m seg_zero.training.launch``."""

from __future__ import annotations

from collections.abc import Sequence

from seg_zero.training.launch.start import launch


def main(argv: Sequence[str]) -> int:
    """Train a policy; the arguments are Hydra overrides, --dry-run and --skip-bad."""
    return launch(argv)
