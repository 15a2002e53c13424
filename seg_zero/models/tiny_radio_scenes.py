"""What the embedded open-vocabulary model learns from and is judged on: scenes with a label for each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from seg_zero.data.synthetic.scenes import COLOURS, SHAPES, Scene, make_scene
from seg_zero.files import make_folder, write_image, write_text

BACKGROUND = "background"
PAIRS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
# Training never sees these named, nor scores their pixels: only the words apart from each other.
LEFT_OUT = ("purple cross", "yellow triangle", "green diamond", "blue circle")
HELD_OUT_SEED, SIDE = 78, 336  # of the scenes that results are measured on
_COLOURS, _SHAPES = list(COLOURS), list(SHAPES)


@dataclass(frozen=True)
class LabelledScene:
    """image: uint8 H x W x 3; pairs: uint8 H x W, 0 for background, else 1 + the number in :data:`PAIRS`."""

    image: np.ndarray
    pairs: np.ndarray
    caption: str


def labelled(scene: Scene) -> LabelledScene:
    """A scene with its label map, and a caption that names what is in it."""
    image = np.asarray(scene.image)
    pairs = np.zeros(image.shape[:2], dtype=np.uint8)
    names = []
    for item in scene.objects:
        name = f"{item.colour} {item.shape}"
        pairs[item.mask] = 1 + PAIRS.index(name)
        names.append(name)
    return LabelledScene(image, pairs, "a photo of " + " and ".join(dict.fromkeys(names)))


def held_out(count: int) -> list[LabelledScene]:
    """The first scenes that results are measured on; another random stream than that of training."""
    return [labelled(make_scene(np.random.default_rng((HELD_OUT_SEED, index)), SIDE)) for index in range(count)]


def label_sets() -> list[tuple[list[str], np.ndarray]]:
    """Ways to name the pixels: texts, and the text of each value of ``pairs`` (-1: not scored, where training must not
    see the name). Pairs, colours alone, shapes alone."""
    known = [pair for pair in PAIRS if pair not in LEFT_OUT]
    pairs = np.array([0, *(1 + known.index(pair) if pair in known else -1 for pair in PAIRS)])
    colours = np.array([0, *(1 + _COLOURS.index(pair.split()[0]) for pair in PAIRS)])
    shapes = np.array([0, *(1 + _SHAPES.index(pair.split()[1]) for pair in PAIRS)])
    for lookup in (colours, shapes):
        lookup[[1 + PAIRS.index(pair) for pair in LEFT_OUT]] = -1
    return [
        ([BACKGROUND, *known], pairs),
        ([BACKGROUND, *(f"{colour} shape" for colour in _COLOURS)], colours),
        ([BACKGROUND, *_SHAPES], shapes),
    ]


def patch_fractions(pairs: np.ndarray, lookup: np.ndarray, patch: int) -> np.ndarray:
    """How much of each patch each class covers, float32 B x h x w x T, from B x H x W label maps.

    Class 0 is the background. All are 0 for a patch with a pixel that is not scored.
    """
    named = lookup[pairs]
    batch, height, width = named.shape
    rows, columns, classes = height // patch, width // patch, int(lookup.max()) + 1
    row = np.arange(batch)[:, None, None] * rows + (np.arange(height) // patch)[:, None]
    cells = (row * columns + np.arange(width) // patch) * classes + named
    counts = np.bincount(cells[named >= 0], minlength=batch * rows * columns * classes)
    counts = counts.reshape(batch, rows, columns, classes)
    whole = counts.sum(-1, keepdims=True) == patch**2
    return np.where(whole, counts / patch**2, 0).astype(np.float32)


def write_scenes(folder: Path, count: int) -> None:
    """The first held-out scenes as a data set that ``seg-zero label evaluate --dataset folder`` reads."""
    make_folder(folder / "images")
    make_folder(folder / "labels")
    for index, scene in enumerate(held_out(count)):
        write_image(folder / "images" / f"{index:04d}.png", Image.fromarray(scene.image))
        write_image(folder / "labels" / f"{index:04d}.png", Image.fromarray(scene.pairs))
    write_text(folder / "labels.txt", "\n".join((BACKGROUND, *PAIRS)) + "\n")
