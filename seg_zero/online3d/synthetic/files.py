"""A synthetic sequence written to disk, in the layout of one's own folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from seg_zero.errors import InputError, one_line
from seg_zero.files import make_folder, whole_file, write_image, write_text
from seg_zero.online3d.synthetic.sequence import SyntheticSequence, Truth

TRUTH = "truth.npz"
EXACT = "exact"


def write_sequence(sequence: SyntheticSequence, folder: Path) -> None:
    """Write colour, depth, poses, masks (``exact/mask``, with the sequence's faults) and the truth of all points."""
    for name in ("color", "depth", "poses", f"{EXACT}/mask"):
        make_folder(folder / name)
    write_text(folder / "intrinsic_depth.txt", _rows(sequence.intrinsics))
    for row in range(sequence.frames):
        view = sequence.view(row)
        frame, masks = sequence.frame(row, view), sequence.masks(row, view)
        write_image(folder / "color" / f"{frame.number}.png", Image.fromarray(frame.colour))
        write_image(folder / "depth" / f"{frame.number}.png", Image.fromarray((frame.depth * 1000).astype(np.uint16)))
        write_image(folder / EXACT / "mask" / f"{frame.number}.png", Image.fromarray(masks.labels.astype(np.uint16)))
        write_text(folder / "poses" / f"{frame.number}.txt", _rows(frame.pose))
    truth = sequence.truth(depth_far=8.0)
    with whole_file(folder / TRUTH) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, points=truth.points, ids=truth.ids)


def read_truth(path: Path) -> Truth:
    """Points and ids of a ``truth.npz``. Raises InputError if it is missing or damaged."""
    if not path.exists():
        raise InputError(f"{path} does not exist; give the truth, an npz with points V x 3 and ids V")
    try:
        with np.load(path, allow_pickle=False) as file:
            truth = Truth(file["points"], file["ids"])
    except Exception as error:  # damaged archives raise anything
        raise InputError(f"{path} cannot be read ({one_line(error)}); it needs points V x 3 and ids V") from error
    if truth.points.ndim != 2 or truth.points.shape[1] != 3 or truth.ids.shape != (len(truth.points),):
        raise InputError(f"{path}: points have shape {truth.points.shape} and ids {truth.ids.shape}, not V x 3 and V")
    return truth


def _rows(matrix: np.ndarray) -> str:
    return "\n".join(" ".join(f"{value:.9g}" for value in row) for row in matrix) + "\n"
