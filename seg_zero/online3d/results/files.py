"""What a scan leaves behind: arrays and a point cloud in the original's form, and a summary."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.errors import InputError, one_line
from seg_zero.files import whole_file
from seg_zero.online3d.results.result import Result

RESULT = "ckpt_final.npz"
CLOUD = "final.ply"
SUMMARY = "scan.json"
GREY = (150, 150, 150)


def write_result(result: Result, folder: Path) -> None:
    """Write ``ckpt_final.npz`` and ``final.ply``; the first four arrays are named as in the original."""
    count = result.masks.shape[1]
    ends = np.cumsum([len(frames) for frames in result.key_frames], dtype=np.int64)
    with whole_file(folder / RESULT) as partial, partial.open("wb") as stream:
        np.savez_compressed(
            stream,
            pred_masks=result.masks,
            pred_score=np.ones(count),
            pred_classes=np.zeros(count, dtype=np.int64),
            pred_sem_features=result.features.T,
            points=result.points,
            colours=result.colours,
            numbers=result.numbers,
            weights=result.weights,
            key_frames=np.concatenate([np.zeros(0, dtype=np.int64), *result.key_frames]),
            key_frame_ends=ends,
        )
    owner = result.owner
    write_ply(folder / CLOUD, result.points, instance_colours(owner, count), owner)


def read_result(folder: Path) -> Result:
    """What :func:`write_result` wrote. Raises InputError if it is not there or damaged."""
    path = folder / RESULT
    if not path.exists():
        raise InputError(f"{folder} holds no {RESULT}; make it with `seg-zero scan SEQUENCE --out {folder}`")
    try:
        with np.load(path, allow_pickle=False) as file:
            ends = file["key_frame_ends"]
            frames = np.split(file["key_frames"], ends[:-1]) if len(ends) else []
            return Result(
                file["points"],
                file["colours"],
                file["pred_masks"],
                file["pred_sem_features"].T,
                file["numbers"],
                file["weights"],
                frames,
            )
    except Exception as error:  # damaged archives raise anything
        raise InputError(f"{path} cannot be read ({one_line(error)}); make the scan again") from error


def colour_of(instance: int) -> tuple[int, int, int]:
    """A colour for each of any number of instances: hues a golden section apart, three lightnesses in turn."""
    hue, lightness = (0.58 + 0.618034 * instance) % 1, (0.55, 0.42, 0.68)[instance % 3]
    red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, 0.7))
    return red, green, blue


def instance_colours(owner: np.ndarray, count: int) -> np.ndarray:
    """Colours uint8 P x 3 of points by their instance, one of ``count``; grey for points of none (-1)."""
    table = np.array([*(colour_of(i) for i in range(count)), GREY], dtype=np.uint8)
    chosen: np.ndarray = table[owner]
    return chosen


def write_ply(path: Path, points: np.ndarray, colours: np.ndarray, owner: np.ndarray) -> None:
    """A binary PLY of vertices with colour and ``instance`` (-1: none)."""
    fields: list[Any] = [(axis, "<f4") for axis in "xyz"] + [(name, "u1") for name in ("red", "green", "blue")]
    vertices = np.empty(len(points), dtype=[*fields, ("instance", "<i4")])
    for column, axis in enumerate("xyz"):
        vertices[axis] = points[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        vertices[name] = colours[:, column]
    vertices["instance"] = owner
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"property uchar {name}" for name in ("red", "green", "blue")]
    lines += ["property int instance", "end_header", ""]
    with whole_file(path) as partial:
        partial.write_bytes("\n".join(lines).encode("ascii") + vertices.tobytes())
