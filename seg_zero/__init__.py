"""Seg-Zero: reinforcement learning for reasoning segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["ReasoningSegmenter", "SegmentationResult", "__version__"]

if TYPE_CHECKING:
    from seg_zero.pipeline import ReasoningSegmenter, SegmentationResult


def __getattr__(name: str) -> object:
    # Lazy: a reward worker imports this package without paying for torch.
    if name in ("ReasoningSegmenter", "SegmentationResult"):
        from seg_zero import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'seg_zero' has no attribute {name!r}")
