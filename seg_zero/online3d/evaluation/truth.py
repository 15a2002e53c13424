"""The truth of a scan, wherever it lies: an npz of our own, or the annotations of ScanNet or SceneNN."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from seg_zero.errors import InputError
from seg_zero.online3d.evaluation.scannet import VALID as SCANNET200
from seg_zero.online3d.evaluation.scannet import is_scannet, read_scannet
from seg_zero.online3d.evaluation.scenenn import VALID as NYU
from seg_zero.online3d.evaluation.scenenn import is_scenenn, read_scenenn
from seg_zero.online3d.synthetic.files import TRUTH, read_truth
from seg_zero.online3d.synthetic.sequence import Truth


@dataclass(frozen=True)
class TrueScene:
    """Points with their objects, and the classes that count in this data set; None: all above 0."""

    truth: Truth
    valid: Collection[int] | None = None


def find_truth(place: Path) -> TrueScene:
    """Read a file, or what a folder holds: ``truth.npz``, or the annotations of ScanNet or SceneNN.

    Raises InputError if there is none, or it is damaged or without any object.
    """
    if not place.is_dir():
        found = TrueScene(read_truth(place))
    elif (place / TRUTH).exists():
        found = TrueScene(read_truth(place / TRUTH))
    elif is_scannet(place):
        found = TrueScene(read_scannet(place), SCANNET200)
    elif is_scenenn(place):
        found = TrueScene(read_scenenn(place), NYU)
    else:
        raise InputError(
            f"{place} holds no truth: neither {TRUTH} nor annotations of ScanNet or SceneNN; give it with --truth"
        )
    if not (found.truth.ids >= 1000).any():
        raise InputError(f"{place}: no point of the truth belongs to an object of a known class")
    return found
