"""Where the masks of a frame come from: files in the original's layout, or SAM2's automatic masks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from seg_zero.errors import InputError, one_line
from seg_zero.online3d.inputs.frames import BadFrame, Frame, FrameMasks, paint
from seg_zero.online3d.inputs.loaders.sequence import numbered

if TYPE_CHECKING:
    from seg_zero.segmenter import Segmenter


@dataclass(frozen=True)
class FolderMasks:
    """Label maps in a folder ``mask``: grey PNGs with 0 for no mask, 8 or 16 bits, named by the frame's number.

    A folder ``mask_embeddings`` beside it may hold vectors, NAME.npy or NAME.pt, N x D: row i is of label i + 1.
    """

    folder: Path
    files: dict[int, Path] = field(init=False)

    def __post_init__(self) -> None:
        inside = self.folder / "mask" if (self.folder / "mask").is_dir() else self.folder
        files = numbered(inside.glob("*.png"))
        if not files:
            raise InputError(f"{inside} holds no masks named like 120.png; give the folder that holds `mask/`")
        object.__setattr__(self, "files", files)

    def __call__(self, frame: Frame) -> FrameMasks:
        """Raises BadFrame if the frame has no file, or one that is damaged or of another size."""
        path = self.files.get(frame.number)
        if path is None:
            raise BadFrame(f"frame {frame.number}: there are no masks for it in {self.folder}")
        try:
            with Image.open(path) as image:
                labels = np.asarray(image)
        except Exception as error:  # decoders raise anything for damaged files
            raise BadFrame(f"frame {frame.number}: {path.name} cannot be read ({one_line(error)})") from error
        if labels.ndim != 2 or labels.dtype.kind not in "iub":
            raise BadFrame(f"frame {frame.number}: {path.name} is no grey picture of mask numbers")
        labels = labels.astype(np.int32)
        full = frame.depth.shape[0] + 2 * frame.crop, frame.depth.shape[1] + 2 * frame.crop
        if labels.shape == full and frame.crop:
            labels = labels[frame.crop : -frame.crop, frame.crop : -frame.crop]
        if labels.shape != frame.depth.shape:
            raise BadFrame(
                f"frame {frame.number}: masks are {labels.shape[1]}x{labels.shape[0]} pixels and the frame is "
                f"{full[1]}x{full[0]}; make them again at that size"
            )
        return FrameMasks(labels, self._features(path))

    def _features(self, path: Path) -> dict[int, np.ndarray] | None:
        folder = path.parent.parent / "mask_embeddings"
        for suffix in (".npy", ".pt"):
            file = folder / f"{path.stem}{suffix}"
            if file.exists():
                return {row + 1: vector for row, vector in enumerate(_vectors(file))}
        return None


def _vectors(file: Path) -> np.ndarray:
    try:
        if file.suffix == ".npy":
            vectors = np.load(file, allow_pickle=False)
        else:
            import torch

            vectors = torch.load(file, map_location="cpu", weights_only=True).float().numpy()
    except Exception as error:  # damaged files raise anything
        raise BadFrame(f"{file} cannot be read ({one_line(error)})") from error
    if vectors.ndim != 2:
        raise BadFrame(f"{file} has shape {vectors.shape}; features are N x D")
    return np.asarray(vectors, dtype=np.float32)


@dataclass(frozen=True)
class AutomaticMasks:
    """Masks of whatever SAM2 finds, large ones painted first, so that parts stay on top of their wholes."""

    segmenter: Segmenter
    points_per_side: int = 16
    min_score: float = 0.7
    min_pixels: int = 200

    def __call__(self, frame: Frame) -> FrameMasks:
        found = self.segmenter.segment_everything(
            Image.fromarray(np.ascontiguousarray(frame.colour)),
            points_per_side=self.points_per_side,
            min_score=self.min_score,
        )
        areas = found.masks.sum(axis=(1, 2))
        large = areas >= self.min_pixels
        return FrameMasks(paint(found.masks[large], areas[large]))
