"""Answers without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.results.result import SegmentationResult, SegmentedObject


def disc(size: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    """Boolean H x W mask on a picture of (width, height)."""
    ys, xs = np.mgrid[: size[1], : size[0]]
    return (xs - centre[0]) ** 2 + (ys - centre[1]) ** 2 < radius**2


def answer_of(
    masks: Sequence[np.ndarray], size: tuple[int, int] = (160, 120), question: str = "all discs", **changes: Any
) -> SegmentationResult:
    """An answer with these masks about a picture of (width, height)."""
    objects = tuple(
        SegmentedObject((1.0, 2.0, 30.0, 40.0), ((5.0, 6.0),), mask=mask, score=0.9 - number / 10)
        for number, mask in enumerate(masks)
    )
    stack = np.array(masks, dtype=bool).reshape(-1, size[1], size[0])
    colours = np.random.default_rng(2).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    values: dict[str, Any] = {
        "question": question,
        "thinking": "they are round",
        "objects": objects,
        "masks": stack,
        "mask": stack.any(axis=0),
        "text": "<answer>[]</answer>",
        "problem": None,
        "texts": ("<answer>[]</answer>",),
        "seconds": {"policy": 1.0, "embedding": 0.5, "segmenter": 0.1},
        "image": Image.fromarray(colours),
    }
    return SegmentationResult(**{**values, **changes})
