"""mIoU on held-out tiles while a training runs, by detectron2's rule, with a picture of the first tiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from seg_zero.metrics.semantic import IGNORE, Confusion
from seg_zero.open_vocabulary.pictures import palette
from seg_zero.remote_sensing.model.loss import Compat
from seg_zero.remote_sensing.model.network import RemoteSensingNetwork
from seg_zero.remote_sensing.segmenter import RemoteSensingSegmenter
from seg_zero.remote_sensing.tiles import LabelledTiles

_PICTURE_SIDE, _GAP = 256, 4


def evaluate(
    network: RemoteSensingNetwork,
    tiles: LabelledTiles,
    accelerator: Accelerator,
    *,
    limit: int = 0,
    pictures: int = 0,
    compat: Compat = "ours",
) -> tuple[dict[str, float], np.ndarray | None]:
    """The numbers of detectron2's rule over all processes, and rows of tile, truth and prediction (H x W x 3 uint8).

    limit: only the first tiles; 0: all. The picture is made in the main process alone.
    """
    segmenter, classes = RemoteSensingSegmenter(network, compat=compat), tiles.classes
    confusion = Confusion(len(classes))
    rows: list[list[np.ndarray]] = []
    count = min(limit, len(tiles)) if limit else len(tiles)
    for index in range(accelerator.process_index, count, accelerator.num_processes):
        image, truth = tiles.image(index), tiles.labels(index)
        with accelerator.autocast():
            found = segmenter.probabilities(image, classes).argmax(axis=0).astype(np.uint8)
        confusion.add(found, truth)
        if accelerator.is_main_process and len(rows) < pictures:
            rows.append(_row(image, truth, found, len(classes)))
    counted = torch.from_numpy(confusion.matrix).to(accelerator.device)
    confusion.matrix = accelerator.reduce(counted, reduction="sum").cpu().numpy()
    return confusion.result("detectron2"), _stacked(rows) if rows else None


def _row(image: np.ndarray, truth: np.ndarray, found: np.ndarray, classes: int) -> list[np.ndarray]:
    """A tile, its truth and its prediction in colours; what does not count is black in both."""
    colours = palette(classes + 1)
    truth_colours = np.where((truth == IGNORE)[..., None], 0, colours[np.where(truth == IGNORE, 0, truth) + 1])
    found_colours = np.where((truth == IGNORE)[..., None], 0, colours[found.astype(int) + 1])
    return [_square(part) for part in (image, truth_colours.astype(np.uint8), found_colours.astype(np.uint8))]


def _square(picture: np.ndarray) -> np.ndarray:
    size = (_PICTURE_SIDE, _PICTURE_SIDE)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.NEAREST))


def _stacked(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    gap = [(_GAP // 2, _GAP // 2), (_GAP // 2, _GAP // 2), (0, 0)]
    lines = [np.concatenate([np.pad(part, gap, constant_values=255) for part in row], axis=1) for row in rows]
    return np.concatenate(lines, axis=0)
