"""Features and text to probabilities and labels: softmax of cosines, prompt denoising, threshold and ignore channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

TEMPERATURE = 100.0
PIXELS_AT_ONCE = 1 << 24  # probabilities at full resolution in memory: 64 MB
IGNORED = 0  # the label of pixels below the threshold, where they are told apart


def class_probabilities(
    features: torch.Tensor, text: torch.Tensor, classes: Sequence[int] | None = None
) -> torch.Tensor:
    """softmax(100 cos) of B x E x h x w features in the space of the text, and K x E text vectors: B x T x h x w.

    classes: the class of each text vector, from 0 to T-1; the cosine of a class is the highest of its synonyms. None:
    each text is a class.
    """
    directions = F.normalize(text.to(features), dim=-1)
    cosines = torch.einsum("behw,ke->bkhw", F.normalize(features, dim=1), directions)
    if classes is not None and len(classes) != max(classes, default=-1) + 1:
        places: list[list[int]] = [[] for _ in range(max(classes) + 1)]
        for place, number in enumerate(classes):
            places[number].append(place)
        cosines = torch.stack([cosines[:, own].amax(dim=1) for own in places], dim=1)
    return (TEMPERATURE * cosines).softmax(dim=1)


def upsampled(probabilities: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """B x T x h x w at another (height, width), bilinear."""
    return F.interpolate(probabilities, size=size, mode="bilinear", align_corners=False)


def _by_classes(probabilities: torch.Tensor, size: tuple[int, int]) -> Iterator[tuple[int, torch.Tensor]]:
    """Probabilities at full resolution, some classes at a time, with the number of the first."""
    step = max(1, PIXELS_AT_ONCE // (len(probabilities) * size[0] * size[1]))
    for start in range(0, probabilities.shape[1], step):
        yield start, upsampled(probabilities[:, start : start + step], size)


def kept_classes(probabilities: torch.Tensor, size: tuple[int, int], threshold: float) -> torch.Tensor:
    """Prompt denoising: bool T, the classes whose probability reaches ``threshold`` somewhere in the B x T x h x w
    images, at full resolution. The others are taken for absent."""
    if threshold <= 0:
        return torch.ones(probabilities.shape[1], dtype=torch.bool, device=probabilities.device)
    return torch.cat([part.amax(dim=(0, 2, 3)) >= threshold for _, part in _by_classes(probabilities, size)])


@dataclass(frozen=True)
class PixelLabels:
    """labels: int64 B x H x W, the most probable class from 0; confidence: its probability, B x H x W."""

    labels: torch.Tensor
    confidence: torch.Tensor

    def with_ignored(self, threshold: float) -> torch.Tensor:
        """The labels raised by 1, and 0 where the confidence is below ``threshold``."""
        return (self.labels + 1).masked_fill(self.confidence < threshold, IGNORED)


def pixel_labels(probabilities: torch.Tensor, size: tuple[int, int], kept: torch.Tensor) -> PixelLabels:
    """The most probable kept class of each pixel at full resolution; classes are compared some at a time."""
    batch = len(probabilities)
    best = probabilities.new_full((batch, *size), -1.0)
    labels = torch.zeros((batch, *size), dtype=torch.long, device=probabilities.device)
    for start, part in _by_classes(probabilities, size):
        part = part * kept[start : start + part.shape[1], None, None]
        highest, index = part.max(dim=1)
        better = highest > best
        best = torch.where(better, highest, best)
        labels = torch.where(better, index + start, labels)
    return PixelLabels(labels, best)


def full_probabilities(
    probabilities: torch.Tensor, size: tuple[int, int], kept: torch.Tensor, *, ignore_channel: bool = False
) -> torch.Tensor:
    """B x T x H x W at full resolution, 0 for classes that are not kept; with ``ignore_channel`` an empty channel
    first, so that channels count as the labels of :meth:`PixelLabels.with_ignored` do."""
    full = upsampled(probabilities, size) * kept[:, None, None]
    return with_ignore_channel(full) if ignore_channel else full


def with_ignore_channel(probabilities: torch.Tensor) -> torch.Tensor:
    """B x T x H x W with an empty channel first, for the pixels without a label."""
    return F.pad(probabilities, (0, 0, 0, 0, 1, 0))
