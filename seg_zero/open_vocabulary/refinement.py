"""RADSeg+: regions of the coarse label map become prompts of a segmenter, whose masks draw the edges anew.

The rules are those of RADSeg+ (arXiv 2511.19704), after Trident. The segmenter is anything with :class:`MaskSource`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from seg_zero.errors import InputError

Size = tuple[int, int]  # height, width
_EIGHT = np.ones((3, 3), dtype=bool)  # pixels that touch at a corner are of one region


@dataclass(frozen=True)
class RefinementSettings:
    """What counts as a region, and which masks are trusted.

    coarse_threshold: pixels, and whole classes, that are less probable give no region. minimal_area: of a region, in
        pixels of half the picture's size. iou_threshold: masks with a predicted IoU up to it are not used.
    """

    coarse_threshold: float = 0.1
    minimal_area: int = 225
    iou_threshold: float = 0.9

    def __post_init__(self) -> None:
        for name in ("coarse_threshold", "iou_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} {getattr(self, name):g} is no fraction; give a number from 0 to 1")
        if self.minimal_area < 1:
            raise InputError(f"minimal_area {self.minimal_area} is below 1 pixel; take about 225")


@dataclass(frozen=True)
class Region:
    """One connected part of a class, in pixels of half the picture's size.

    box: x0, y0, x1, y1, the last two those of the last pixel; point: x, y of its most probable pixel; mask: bool
    dh x dw.
    """

    label: int
    box: tuple[int, int, int, int]
    point: tuple[int, int]
    area: int
    mask: np.ndarray


class MaskSource(Protocol):
    """A segmenter that holds an encoded picture."""

    def masks(
        self, regions: list[Region], probability: torch.Tensor, half: Size, size: Size
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks of regions of one class, prompted by their boxes and points.

        probability: dh x dw, of their class, at ``half`` size. Returns logits N x H x W at ``size``, positive inside,
        and N predicted IoUs, both on the device of ``probability``.
        """
        ...


@dataclass(frozen=True)
class Refined:
    """labels: int64 H x W, classes from 0; scores: float T x H x W, in the place of the probabilities; kept, failed:
    how many regions got a trusted mask, and how many did not."""

    labels: torch.Tensor
    scores: torch.Tensor
    kept: int
    failed: int


def find_regions(probabilities: torch.Tensor, labels: torch.Tensor, settings: RefinementSettings) -> list[Region]:
    """The regions of T x dh x dw probabilities and dh x dw labels, by class and then in raster order."""
    found, confidence = labels.cpu().numpy(), probabilities.amax(0).cpu().numpy()
    values = probabilities.cpu().numpy()
    sure = confidence >= settings.coarse_threshold
    regions = []
    for label, probability in enumerate(values):
        if probability.max() < settings.coarse_threshold:
            continue
        parts, count = ndimage.label((found == label) & sure, structure=_EIGHT)
        for number, (rows, columns) in enumerate(ndimage.find_objects(parts, count), start=1):
            mask = parts == number
            area = int(mask.sum())
            if area < settings.minimal_area:
                continue
            top = int(np.where(mask, probability, -1).argmax())
            box = (columns.start, rows.start, columns.stop - 1, rows.stop - 1)
            regions.append(Region(label, box, (top % mask.shape[1], top // mask.shape[1]), area, mask))
    return regions


def refine(
    probabilities: torch.Tensor, labels: torch.Tensor, source: MaskSource, settings: RefinementSettings
) -> Refined:
    """Refine T x H x W probabilities and their H x W labels.

    With M the union of a class's trusted masks, its score is M * max over the masks of sigmoid(logit) * probability.
    A pixel's label is the class with the highest score, or the coarse one where all scores are 0. Inside regions
    without a trusted mask scores are at least the probabilities; labels stay, as in the published code. Without any
    trusted mask everything stays as it was.
    """
    size: Size = (labels.shape[0], labels.shape[1])
    half: Size = (max(1, size[0] // 2), max(1, size[1] // 2))
    small_labels = F.interpolate(labels[None, None].float(), size=half, mode="nearest")[0, 0].long()
    small = F.interpolate(probabilities[None], size=half, mode="bilinear", align_corners=False)[0]
    regions = find_regions(small, small_labels, settings)
    scores = torch.zeros_like(probabilities)
    failed_regions: list[Region] = []
    kept = 0
    for label in dict.fromkeys(region.label for region in regions):
        own = [region for region in regions if region.label == label]
        logits, quality = source.masks(own, small[label], half, size)
        trusted = quality > settings.iou_threshold
        failed_regions += [region for region, good in zip(own, trusted.tolist(), strict=True) if not good]
        if not trusted.any():
            continue
        chosen = logits[trusted]
        kept += len(chosen)
        scores[label] = (chosen.sigmoid() * probabilities[label]).amax(0) * (chosen > 0).any(0)
    if not kept:
        return Refined(labels, probabilities, 0, len(failed_regions))
    refined = torch.where(scores.sum(0) == 0, labels, scores.argmax(0))
    if failed_regions:
        union = np.logical_or.reduce([region.mask for region in failed_regions])
        inside = F.interpolate(torch.from_numpy(union)[None, None].float(), size=size, mode="nearest")[0, 0] > 0
        scores = torch.where(inside.to(scores.device), torch.maximum(scores, probabilities), scores)
    return Refined(refined, scores, kept, len(failed_regions))
