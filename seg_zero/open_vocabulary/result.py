"""A labelled picture: what each pixel is, how sure that is, and what it looks like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.open_vocabulary.labels import Label
from seg_zero.open_vocabulary.pictures import draw_labels, heatmap_grid, label_picture
from seg_zero.open_vocabulary.probabilities import full_probabilities, upsampled

NONE = "none"  # the name of label 0: no class is sure enough
MAX_PROBABILITIES = 1 << 28  # numbers at full resolution: 1 GB


@dataclass(frozen=True)
class LabelledImage:
    """The answer to a list of labels. T classes, H x W pixels of ``image``.

    patch_probabilities: float32 T x h x w, softmax over the classes, as the backbone sees them.
    kept: bool T; classes that are not were taken for absent.
    classes: int32 H x W, the most probable kept class from 0; confidence: float32 H x W, its probability.
    threshold: pixels with less confidence, before refinement, have no label.
    refined: float32 T x H x W, the scores that refinement put in the place of probabilities; None without it.
    """

    image: Image.Image
    labels: tuple[Label, ...]
    patch_probabilities: np.ndarray
    kept: np.ndarray
    classes: np.ndarray
    confidence: np.ndarray
    threshold: float = 0.0
    refined: np.ndarray | None = None

    @property
    def names(self) -> list[str]:
        """The names of values of :attr:`label_map`; the first is that of pixels without a label."""
        return [NONE, *(label.name for label in self.labels)]

    @property
    def label_map(self) -> np.ndarray:
        """int32 H x W: 0 without a label, else 1 + the class."""
        unsure = (self.confidence < self.threshold) | (self.confidence <= 0)
        return np.where(unsure, 0, self.classes + 1).astype(np.int32)

    def areas(self) -> dict[str, float]:
        """The fraction of the picture that each label covers, largest first; without those that cover nothing."""
        names = self.names
        counts = np.bincount(self.label_map.ravel(), minlength=len(names))
        order = np.argsort(-counts, kind="stable")
        return {names[index]: float(counts[index] / counts.sum()) for index in order if counts[index]}

    def probabilities(self) -> np.ndarray:
        """float32 T x H x W at the picture's size, 0 for classes taken for absent; after refinement its scores.

        Raises InputError where that is more than a gigabyte.
        """
        if self.refined is not None:
            return self.refined
        height, width = self.classes.shape
        if len(self.labels) * height * width > MAX_PROBABILITIES:
            raise InputError(
                f"probabilities of {len(self.labels):,} labels for {width}x{height} pixels are more than a gigabyte; "
                "give fewer labels or a smaller picture"
            )
        patches, kept = torch.from_numpy(self.patch_probabilities)[None], torch.from_numpy(self.kept)
        return full_probabilities(patches, (height, width), kept)[0].numpy()

    def heatmap(self, name: str) -> np.ndarray:
        """float32 H x W: the probability of a label, before any is taken for absent. Raises InputError for another."""
        known = [label.name for label in self.labels]
        if name not in known:
            raise InputError(f"label {name!r} is none of {', '.join(known[:10])}; give one of these")
        patches = torch.from_numpy(self.patch_probabilities)[None, known.index(name), None]
        return upsampled(patches, self.classes.shape)[0, 0].numpy()

    def label_image(self) -> Image.Image:
        """The label map as a picture: 8 bits with a palette, or 16 bits above 255 labels."""
        return label_picture(self.label_map, len(self.labels))

    def overlay(self) -> Image.Image:
        """The picture in the labels' colours, with a legend beside it."""
        return draw_labels(self.image, self.label_map, self.names)

    def heatmaps(self) -> Image.Image:
        """A grid of one heat map per label."""
        return heatmap_grid(self.image, ((label.name, self.heatmap(label.name)) for label in self.labels))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {area:.0%}" for name, area in list(self.areas().items())[:5])
        return f"LabelledImage({self.image.width}x{self.image.height}: {shown})"
