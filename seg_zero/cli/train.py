"""The command ``seg-zero train``, also ``python -m seg_zero.training.launch``."""

from __future__ import annotations

from seg_zero.training.launch.options import parser
from seg_zero.training.launch.options import train as main

__all__ = ["main", "parser"]
