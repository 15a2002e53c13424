"""Masks of a whole image without prompts: a grid of points, then filters.

The method and its defaults are those of the automatic mask generator of "Segment Anything" (Kirillov et al. 2023,
appendix B), without crops. It runs twice over the decoder, so that memory does not grow with the grid: the first pass
keeps only a few numbers of each candidate, and the masks of those chosen are decoded again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.segmenter.base import Embedding, Segmentation
from seg_zero.segmenter.prompts import DECODER_BATCH, Prompt

if TYPE_CHECKING:
    from seg_zero.segmenter.prompted import PromptedSegmenter

MAX_POINTS_PER_SIDE = 256
STABILITY_OFFSET = 1.0  # of the logits, up and down
ORDERS = ("score", "area")


@dataclass(frozen=True)
class _Seen:
    """Numbers of all candidates that pass the filters, in order of the grid.

    places: int M x 2, the point and which of its three masks; scores: M, predicted IoUs;
    boxes: M x 4 (x1, y1, x2, y2) in pixels of the logits, whose overlaps are those in the image.
    """

    places: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray


def find_all(
    segmenter: PromptedSegmenter,
    image: Image.Image,
    *,
    points_per_side: int,
    min_score: float,
    min_stability: float,
    max_overlap: float,
    max_masks: int,
    order: str,
) -> Segmentation:
    """Masks of the objects and parts that a grid of points finds in an RGB image.

    points_per_side: the grid has this many points in each direction; each proposes three masks.
    min_score: least predicted IoU, 0 to 1.
    min_stability: least IoU between the mask cut at a logit of 1 and the mask cut at -1, 0 to 1.
    max_overlap: of two masks with a greater IoU, or whose boxes have one, the one with the lower score goes.
    max_masks: the best of them by score; bounds the size of the result.
    order: "score" or "area" (pixels), largest first.

    Returns N x H x W masks; N may be 0. Raises InputError for numbers out of range.
    """
    _check(points_per_side, min_score, min_stability, max_overlap, max_masks, order)
    embedding = segmenter.embed([image])[0]
    width, height = embedding.size
    steps = (np.arange(points_per_side) + 0.5) / points_per_side
    points = np.stack(np.meshgrid(steps * width, steps * height), axis=-1).reshape(-1, 2)
    seen = _look(segmenter, embedding, points, min_score, min_stability)
    kept = seen.places[_apart(seen.boxes, seen.scores, max_overlap)]
    masks: list[np.ndarray] = []
    scores: list[float] = []
    taken = torch.zeros((0, segmenter.low_res_side**2), device=segmenter.device)
    for logits, score in _again(segmenter, embedding, points, kept):
        # Boxes alone leave repetitions: a few stray pixels make another box of the same mask.
        inside = (logits > 0).flatten().float()
        common = taken @ inside
        if len(masks) == max_masks or bool((common > max_overlap * (taken.sum(1) + inside.sum() - common)).any()):
            continue
        mask = segmenter.full_mask(logits, embedding.size)
        if mask.any():  # it may vanish when it is resized to a tiny image
            taken = torch.cat([taken, inside[None]])
            masks.append(mask)
            scores.append(score)
    if not masks:
        return Segmentation(np.zeros((0, height, width), dtype=bool), np.zeros(0, dtype=np.float32))
    found = np.stack(masks)
    keys = found.sum(axis=(1, 2)) if order == "area" else np.array(scores)
    ranks = np.argsort(-keys, kind="stable")
    return Segmentation(found[ranks], np.array(scores, dtype=np.float32)[ranks])


def _check(points: int, score: float, stability: float, overlap: float, masks: int, order: str) -> None:
    if not 1 <= points <= MAX_POINTS_PER_SIDE:
        raise InputError(f"points_per_side={points} is not from 1 to {MAX_POINTS_PER_SIDE}; try 32")
    for name, value in (("min_score", score), ("min_stability", stability), ("max_overlap", overlap)):
        if not 0 <= value <= 1:
            raise InputError(f"{name}={value} is not from 0 to 1")
    if masks < 1:
        raise InputError(f"max_masks={masks} is less than 1; try 256")
    if order not in ORDERS:
        raise InputError(f"order={order!r} is unknown; choose one of {', '.join(ORDERS)}")


def _prompts(embedding: Embedding, points: np.ndarray) -> list[Prompt]:
    return [Prompt(embedding, None, [(float(x), float(y))]) for x, y in points]


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + DECODER_BATCH) for start in range(0, count, DECODER_BATCH))


def _look(
    segmenter: PromptedSegmenter, embedding: Embedding, points: np.ndarray, min_score: float, min_stability: float
) -> _Seen:
    """First pass: every candidate of every point, of which only numbers are kept."""
    places, scores, boxes = [np.zeros((0, 2), dtype=int)], [np.zeros(0)], [np.zeros((0, 4))]
    for some in _chunks(len(points)):
        found = segmenter.candidates(_prompts(embedding, points[some]))
        inside = found.logits > 0
        core = (found.logits > STABILITY_OFFSET).sum((2, 3))
        around = (found.logits > -STABILITY_OFFSET).sum((2, 3))
        good = (found.quality >= min_score) & (core >= min_stability * around) & inside.any(3).any(2)
        where = good.nonzero()
        places.append((where + torch.tensor([some.start, 0], device=where.device)).cpu().numpy())
        scores.append(found.quality[good].cpu().numpy())
        boxes.append(_boxes(inside[good]).cpu().numpy())
    return _Seen(np.concatenate(places), np.concatenate(scores), np.concatenate(boxes))


def _boxes(masks: torch.Tensor) -> torch.Tensor:
    """Tight boxes M x 4 of bool masks M x h x w, none of them empty."""
    columns, rows = masks.any(1).int(), masks.any(2).int()
    return torch.stack(
        [
            columns.argmax(1),
            rows.argmax(1),
            masks.shape[2] - columns.flip(1).argmax(1),
            masks.shape[1] - rows.flip(1).argmax(1),
        ],
        dim=1,
    ).double()


def _apart(boxes: np.ndarray, scores: np.ndarray, max_overlap: float) -> np.ndarray:
    """Non-maximum suppression: indices of boxes M x 4 to keep, best score first, the earlier one of equals."""
    kept: list[int] = []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left = np.argsort(-scores, kind="stable")
    while len(left):
        best, left = int(left[0]), left[1:]
        kept.append(best)
        sides = np.minimum(boxes[left, 2:], boxes[best, 2:]) - np.maximum(boxes[left, :2], boxes[best, :2])
        common = sides.clip(min=0).prod(axis=1)
        left = left[common <= max_overlap * (areas[left] + areas[best] - common)]
    return np.array(kept, dtype=int)


def _again(
    segmenter: PromptedSegmenter, embedding: Embedding, points: np.ndarray, places: np.ndarray
) -> Iterator[tuple[torch.Tensor, float]]:
    """Second pass: the logits h x w of the chosen candidates, and their scores."""
    for some in _chunks(len(places)):
        chosen = places[some]
        found = segmenter.candidates(_prompts(embedding, points[chosen[:, 0]]))
        for row, (_, choice) in enumerate(chosen):
            yield found.logits[row, choice], float(found.quality[row, choice])
