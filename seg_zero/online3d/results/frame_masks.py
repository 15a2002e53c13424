"""The objects of a finished scan as masks of its key frames: a file in COCO's form for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.files import make_folder, write_json
from seg_zero.masks import encode_mask, mask_bounds, resize_mask
from seg_zero.online3d.inputs.frames import BadFrame
from seg_zero.online3d.inputs.loaders.sequence import KeyFrame, RgbdSequence
from seg_zero.online3d.results.result import Result
from seg_zero.online3d.results.views import InstanceViews

COCO = "coco"
CATEGORY = {"id": 1, "name": "object"}


def write_frame_masks(
    sequence: RgbdSequence, keys: Sequence[KeyFrame], result: Result, voxel_size: float, folder: Path
) -> list[str]:
    """Write ``coco/NUMBER.json`` for each key frame; returns the problems of frames that cannot be read any more.

    The points of the scan are projected into each frame: a pixel shows the object whose point is nearest to its own.
    """
    if not result.count:
        return []
    views = InstanceViews(result, voxel_size)
    numbers = result.numbers.tolist()
    problems = []
    for key in keys:
        try:
            frame = sequence.read(key)
        except BadFrame as problem:
            problems.append(str(problem))
            continue
        with Image.open(key.files.colour) as picture:
            size = picture.size
        seen = np.pad(views.see(frame), frame.crop, constant_values=-1)
        name = key.files.colour.relative_to(sequence.folder).as_posix()
        write_json(make_folder(folder / COCO) / f"{key.number}.json", frame_coco(seen, numbers, key.number, name, size))
    return problems


def frame_coco(
    seen: np.ndarray, numbers: Sequence[int], frame: int, name: str, size: tuple[int, int]
) -> dict[str, Any]:
    """A COCO data set of one picture.

    seen: the column of the object int H x W, -1 for none, of another size if depth is smaller than colour. numbers: of
    the objects by column. size: (width, height) of the picture ``name``. An annotation's ``instance`` is the column,
    as in ``pred_masks`` and ``final.ply``, and its ``number`` that object's in ``numbers``; both are the same in all
    frames.
    """
    annotations: list[dict[str, Any]] = []
    for column in np.unique(seen[seen >= 0]).tolist():
        mask = seen == column
        if mask.shape != size[::-1]:
            mask = resize_mask(mask, size)
        if not mask.any():
            continue
        left, top, right, bottom = mask_bounds(mask)
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": frame,
                "category_id": CATEGORY["id"],
                "instance": column,
                "number": int(numbers[column]),
                "bbox": [left, top, right - left, bottom - top],
                "area": int(mask.sum()),
                "segmentation": encode_mask(mask),
                "iscrowd": 0,
            }
        )
    return {
        "info": {"description": "objects of seg-zero scan"},
        "licenses": [],
        "categories": [CATEGORY],
        "images": [{"id": frame, "file_name": name, "width": size[0], "height": size[1]}],
        "annotations": annotations,
    }
