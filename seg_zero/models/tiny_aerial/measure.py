"""What a training on one sensor of the synthetic aerial world is worth on the other, as a table.

    python -m seg_zero.models.tiny_aerial.measure outputs/world outputs/run

The world is that of ``seg-zero remote-sensing aerial``; the model a training on its first sensor.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.errors import InputError, run_command
from seg_zero.metrics.semantic import Confusion
from seg_zero.remote_sensing.data.aerial.world import CLASSES, TRAINED
from seg_zero.remote_sensing.data.folders import open_tiles
from seg_zero.remote_sensing.labelling import TileLabeller
from seg_zero.remote_sensing.segmenter import RemoteSensingSegmenter
from seg_zero.remote_sensing.tiles import LabelledTiles

# Folders of the world, and what they show.
FOLDERS = {
    "plane/val": "the trained sensor, trained classes",
    "satellite_transfer": "the other sensor, all classes",
    "satellite_other_names": "the same under other names",
}


@dataclass(frozen=True)
class Result:
    """IoU of each class of some tiles by detectron2's rule (NaN: absent), and means: of all classes, of those that were
    trained, of those that were not, and what labels drawn at random would have for these."""

    iou: dict[str, float]
    mean: float
    trained: float
    unseen: float
    chance: float

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def confusion_of(labeller: TileLabeller, tiles: LabelledTiles, turns: int = 0) -> Confusion:
    """Pixels by class and prediction. turns: quarter turns of the tile before it is labelled; its labels turn back."""
    found = Confusion(len(tiles.classes))
    for index in range(len(tiles)):
        turned = np.ascontiguousarray(np.rot90(tiles.image(index), turns))
        labels = labeller.probabilities(turned, tiles.classes).argmax(axis=0)
        found.add(np.rot90(labels, -turns), tiles.labels(index))
    return found


def chance(shares: np.ndarray, classes: int) -> np.ndarray:
    """The IoU of labels drawn evenly from ``classes``, for classes with these shares of the pixels."""
    hits = shares / classes
    return hits / (shares + 1 / classes - hits)


def result_of(confusion: Confusion, names: Sequence[str]) -> Result:
    """names: of the classes, in the order of the world's ``CLASSES``, of which the first were trained."""
    iou = confusion.iou("detectron2")
    true = confusion.matrix.sum(axis=1)
    shares = true / true.sum()
    count = len(TRAINED)
    random = chance(shares, len(names))[count:][shares[count:] > 0]
    return Result(
        iou=dict(zip(names, iou.tolist(), strict=True)),
        mean=float(np.nanmean(iou)),
        trained=float(np.nanmean(iou[:count])),
        unseen=float(np.nanmean(iou[count:])) if len(random) else float("nan"),
        chance=float(random.mean()) if len(random) else float("nan"),
    )


def measure(labeller: TileLabeller, tiles: LabelledTiles) -> Result:
    """Raises InputError for tiles whose classes are not those of the world, or its first."""
    if len(tiles.classes) not in (len(TRAINED), len(CLASSES)):
        raise InputError(f"tiles have {len(tiles.classes)} classes; the world has {len(TRAINED)} or {len(CLASSES)}")
    return result_of(confusion_of(labeller, tiles), tiles.classes)


def table(results: dict[str, Result]) -> str:
    """Rows of a folder each, then one of each class."""
    lines = ["| tiles | mIoU | trained classes | unseen classes | chance of these |", "|---|---|---|---|---|"]
    for name, found in results.items():
        cells = (found.mean, found.trained, found.unseen, found.chance)
        lines.append(f"| {FOLDERS.get(name, name)} | {' | '.join(_number(cell) for cell in cells)} |")
    lines += ["", f"| IoU | {' | '.join(CLASSES)} |", f"|---|{'---|' * len(CLASSES)}"]
    for name, found in results.items():
        values = [*found.iou.values(), *[float("nan")] * (len(CLASSES) - len(found.iou))]
        lines.append(f"| {FOLDERS.get(name, name)} | {' | '.join(_number(value) for value in values)} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Measure a training on the synthetic aerial world.")
    parser.add_argument("world", type=Path, help="folder of seg-zero remote-sensing aerial")
    parser.add_argument("model", type=Path, help="folder of a training")
    arguments = parser.parse_args(argv)
    tiles = {name: open_tiles("folder", arguments.world / name) for name in FOLDERS}
    segmenter = RemoteSensingSegmenter.from_pretrained(arguments.model)
    print(table({name: measure(segmenter, some) for name, some in tiles.items()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
