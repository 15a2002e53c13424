"""What the embedded open-vocabulary model reaches on held-out scenes, and what each step of the method adds there.

    python -m seg_zero.models.tiny_radio_measure --scenes 60

Scenes are of another random stream than those of training; the labels are all pairs of colour and shape, among them
those that training left out, and the background.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from seg_zero.encoders.radio import TINY
from seg_zero.metrics.semantic import Confusion
from seg_zero.models.tiny_radio_scenes import BACKGROUND, LEFT_OUT, PAIRS, LabelledScene, held_out
from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
from seg_zero.open_vocabulary.settings import Settings
from seg_zero.segmenter import load_segmenter

LABELS = (BACKGROUND, *PAIRS)
OFF: dict[str, dict[str, Any]] = {
    "SCRA": {"scra_scaling": None},
    "SCGA": {"scga_scaling": None},
    "windows": {"crop": 0},
    "refinement": {},
}


@dataclass(frozen=True)
class Way:
    """A way to label: the method without some of its steps."""

    name: str
    without: tuple[str, ...] = ()

    @property
    def settings(self) -> Settings:
        return Settings(**{name: value for step in self.without for name, value in OFF[step].items()})

    @property
    def refines(self) -> bool:
        return "refinement" not in self.without


WAYS = (
    Way("none of the steps", tuple(OFF)),
    Way("all"),
    *(Way(f"all but {step}", (step,)) for step in OFF),
)


def measure(segmenter: OpenVocabularySegmenter, scenes: Sequence[LabelledScene]) -> Confusion:
    """The confusion of all scenes, over :data:`LABELS`."""
    total = Confusion(len(LABELS))
    for scene in scenes:
        found = segmenter.segment(Image.fromarray(scene.image), list(LABELS)).label_map
        total.add(np.where(found == 0, total.ignore, found - 1), scene.pairs)
    return total


def left_out_iou(confusion: Confusion) -> float:
    """Mean IoU of the pairs that training never saw named."""
    return float(np.nanmean(confusion.iou()[[LABELS.index(pair) for pair in LEFT_OUT]]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the embedded open-vocabulary model on held-out scenes.")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--backbone", type=Path, help="folder (default: the shipped one)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    segmenter = OpenVocabularySegmenter.from_pretrained(arguments.backbone or TINY, device="cpu")
    refiner, scenes = load_segmenter("tiny", "cpu"), held_out(arguments.scenes)
    print("| steps | mIoU | pixels right | IoU of pairs left out |\n|---|---|---|---|")
    for way in WAYS:
        segmenter.change(way.settings)
        segmenter.refine_with(refiner if way.refines else None)
        found = measure(segmenter, scenes)
        numbers = found.result()
        print(f"| {way.name} | {numbers['mIoU']:.3f} | {numbers['aAcc']:.3f} | {left_out_iou(found):.3f} |", flush=True)


if __name__ == "__main__":
    main()
