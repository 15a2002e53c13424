"""Seg-Zero: reinforcement learning for reasoning segmentation."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

from seg_zero.account import complete_account

__version__ = "0.1.0"
__all__ = ["ReasoningSegmenter", "SegmentationResult", "__version__"]

complete_account()
# Notebooks without ipywidgets, where tqdm, which transformers imports, then writes its bars as text.
warnings.filterwarnings("ignore", message="IProgress not found")

if TYPE_CHECKING:
    from seg_zero.pipeline import ReasoningSegmenter, SegmentationResult


def __getattr__(name: str) -> object:
    # Lazy: a reward worker imports this package without paying for torch.
    if name in ("ReasoningSegmenter", "SegmentationResult"):
        # Read when torch is imported: policy and SAM2 run at one time, and threads that spin would hold up the other.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from seg_zero import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'seg_zero' has no attribute {name!r}")
