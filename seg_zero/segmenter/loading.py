"""The one way to a segmenter: its name decides which implementation loads it."""

from __future__ import annotations

from pathlib import Path

import torch

from seg_zero.segmenter.base import Segmenter
from seg_zero.segmenter.files import Sam2Files, find


def load_segmenter(path_or_id: str | Path | None = None, device: str | None = None) -> Segmenter:
    """Load a SAM 2, SAM 2.1 or SAM 3 tracker.

    path_or_id: see :func:`seg_zero.segmenter.files.find`; None for the embedded model.
    device: a torch device; CUDA if there is one, otherwise the CPU.

    Raises InputError if the files are missing or do not hold such a model.
    """
    files = find(path_or_id)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(files, Sam2Files):
        from seg_zero.segmenter.sam2_package import Sam2PackageSegmenter

        return Sam2PackageSegmenter.from_files(files.config, files.checkpoint, where)
    from seg_zero.segmenter.transformers_sam import TransformersSegmenter

    return TransformersSegmenter.from_folder(files, where)
