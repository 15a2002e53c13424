"""Data sets of tiles for the evaluation of label maps, and any labeller of tiles as one that it asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from seg_zero.evaluation.semantic.presets import LabelSet
from seg_zero.evaluation.semantic.run import Labelled, Labeller
from seg_zero.images import load_image
from seg_zero.open_vocabulary.pictures import label_picture
from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
from seg_zero.remote_sensing.data.folders import FolderTiles
from seg_zero.remote_sensing.labelling import TileLabeller


def label_set(tiles: FolderTiles) -> LabelSet:
    """A data set of tiles, judged by detectron2's rule with boundaries."""
    title = tiles.title if tiles.split == "all" else f"{tiles.title}, {tiles.split} split"
    return LabelSet(
        tiles.dataset, title, tiles.classes, tiles.listing, {"split": tiles.split}, rule="detectron2", boundaries=True
    )


@dataclass(frozen=True)
class LabelledTile:
    """What was found in a tile. label_map: int32 H x W, 1 + the most probable class."""

    label_map: np.ndarray
    classes: int

    def label_image(self) -> Image.Image:
        return label_picture(self.label_map, self.classes)


@dataclass(frozen=True)
class TileJudge:
    """A labeller of tiles with its labels, as the evaluation asks it."""

    labeller: TileLabeller
    labels: Sequence[str]

    def segment(self, image: Path) -> Labelled:
        """Raises InputError for a picture that cannot be read."""
        probabilities = self.labeller.probabilities(np.asarray(load_image(image)), self.labels)
        return LabelledTile(probabilities.argmax(axis=0).astype(np.int32) + 1, len(self.labels))


def judge_of(labeller: TileLabeller | OpenVocabularySegmenter, labels: Sequence[str]) -> Labeller:
    """What labels pictures of a data set: the open-vocabulary method by itself, with its denoising and refinement."""
    if isinstance(labeller, OpenVocabularySegmenter):
        labeller.set_labels(list(labels))
        return labeller
    return TileJudge(labeller, labels)
