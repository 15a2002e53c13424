"""Label Studio tasks with answers as predictions: brush strokes that annotators accept or correct.

Label Studio keeps a brush in the run lengths of the package `@thi.ng/rle-pack`: a header, then runs of equal bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

if TYPE_CHECKING:
    from seg_zero.results.result import SegmentationResult


FROM, TO = "objects", "image"
_CHANNELS = 4  # a brush holds RGBA
_SIZES = (3, 4, 8, 16)  # bits in which a run's length is written, the shortest that fits


def pack_brush(mask: np.ndarray) -> list[int]:
    """A boolean H x W mask as the bytes that Label Studio keeps of a brush: H x W pixels of RGBA, 0 or 255."""
    flat = mask.ravel()
    ends = [0, *(np.flatnonzero(flat[1:] != flat[:-1]) + 1).tolist(), flat.size]
    bits = [f"{flat.size * _CHANNELS:032b}", f"{8 - 1:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for start, end in pairwise(ends):
        value, left = ("11111111" if flat[start] else "00000000"), (end - start) * _CHANNELS
        while left:
            length = min(left, 2 ** _SIZES[-1])
            which = next(place for place, size in enumerate(_SIZES) if length <= 2**size)
            bits.append(f"1{which:02b}{length - 1:0{_SIZES[which]}b}{value}")  # 1: one value, repeated
            left -= length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def brushes(result: SegmentationResult, prefix: str) -> list[dict[str, Any]]:
    """The objects as results of one prediction; ``prefix`` begins their ids."""
    height, width = result.mask.shape
    return [
        {
            "id": f"{prefix}-{number}",
            "from_name": FROM,
            "to_name": TO,
            "type": "brushlabels",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": round(score, 4),
            "value": {"format": "rle", "rle": pack_brush(mask), "brushlabels": [result.question]},
        }
        for number, (mask, score) in enumerate(result.regions, start=1)
    ]


def task(image: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A task about a picture below the root of Label Studio's local files, with one prediction."""
    scores = [one["score"] for one in results]
    prediction = {
        "model_version": "seg-zero",
        "score": round(sum(scores) / len(scores), 4) if scores else 0.0,
        "result": list(results),
    }
    return {"data": {"image": f"/data/local-files/?d={quote(image)}"}, "predictions": [prediction]}


def labelling_config(labels: Sequence[str]) -> str:
    """The labelling interface of a project that takes these tasks."""
    lines = "".join(f"    <Label value={quoteattr(label)}/>\n" for label in labels)
    return (
        f'<View>\n  <Image name="{TO}" value="$image"/>\n'
        f'  <BrushLabels name="{FROM}" toName="{TO}">\n{lines}  </BrushLabels>\n</View>\n'
    )
