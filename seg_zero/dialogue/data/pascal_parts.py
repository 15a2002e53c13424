"""Masks of Pascal-Part's annotations (Chen et al., CVPR 2014): one MATLAB file a picture, with objects and their parts.

``anno.objects`` has ``mask`` and ``parts`` of each object, and a part ``part_name`` and ``mask``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

_PART = re.compile(r"(\d+)[-_](.+)")


def pascal_mask(folder: Path, number: int | str, image: Path) -> np.ndarray:
    """The mask of an id in ``folder/NAME.mat``, boolean H x W: ``2`` is the picture's second object, ``2-3`` its third
    part, and ``2-head`` its part of that name (``2_head`` is the same).

    Raises KeyError for an id without a mask, ValueError for a file that is no annotation, OSError for a missing one.
    """
    part = None if isinstance(number, int) else _PART.fullmatch(number)
    if part is None and not isinstance(number, int):
        raise KeyError(number)
    path = folder / f"{image.stem}.mat"
    objects = _objects(path, path.stat().st_mtime_ns)
    place = int(part[1]) if part else int(number)
    if not 1 <= place <= len(objects):
        raise KeyError(number)
    found = objects[place - 1]
    if part is not None:
        parts = _listed(found.get("parts"))
        chosen = [
            item for at, item in enumerate(parts, start=1) if part[2] in (str(at), str(item.get("part_name", "")))
        ]
        if not chosen:
            raise KeyError(number)
        found = chosen[0]
    mask = found.get("mask")
    if not isinstance(mask, np.ndarray) or mask.ndim != 2:
        raise ValueError(f"{path}: {number} has no mask of rows and columns")
    return mask.astype(bool)


@lru_cache(maxsize=1)  # the rounds of a dialogue ask for the same picture
def _objects(path: Path, changed: int) -> list[dict[str, Any]]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        anno = loadmat(path, simplify_cells=True).get("anno")
    except (MatReadError, NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no MATLAB file that can be read: {error}") from error
    if not isinstance(anno, dict) or "objects" not in anno:
        raise ValueError(f"{path} has no anno with objects; give a file of Pascal-Part")
    return _listed(anno["objects"])


def _listed(value: Any) -> list[dict[str, Any]]:
    """MATLAB's array of structs: one alone is read as a struct, none as an empty array."""
    return [item for item in (value if isinstance(value, (list, np.ndarray)) else [value]) if isinstance(item, dict)]
