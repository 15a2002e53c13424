"""Image and prompts to masks: one protocol, models of the sam2 package and of transformers (docs/segmenters.md).

Names are imported when they are used: checks of a path need neither torch nor sam2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["Embedding", "Segmentation", "Segmenter", "files_of", "load_segmenter"]

if TYPE_CHECKING:
    from seg_zero.segmenter.base import Embedding, Segmentation, Segmenter
    from seg_zero.segmenter.files import files_of
    from seg_zero.segmenter.loading import load_segmenter

_MODULES = {
    "Embedding": "base",
    "Segmentation": "base",
    "Segmenter": "base",
    "files_of": "files",
    "load_segmenter": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
