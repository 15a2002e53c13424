"""The whole state of a scene in one file of plain arrays, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.errors import InputError, one_line
from seg_zero.files import whole_file
from seg_zero.online3d.bank import LiveMask, RawMask
from seg_zero.online3d.calibration import Calibration
from seg_zero.online3d.geometry.vectors import ShapeVectors
from seg_zero.online3d.scene import OnlineScene
from seg_zero.online3d.surface import Surface
from seg_zero.online3d.table import VoxelTable
from seg_zero.online3d.visibility import Visibility

FORMAT = 2


def save_scene(scene: OnlineScene, path: Path, extra: dict[str, Any]) -> None:
    """Write the state atomically. extra: anything for JSON, which :func:`load_scene` returns."""
    bank = scene.bank
    live = list(bank.live.values())
    arrays: dict[str, np.ndarray] = {
        "numbers": np.array(scene.numbers, dtype=np.int64),
        "raw": np.array([(one.row, one.number) for one in bank.raw], dtype=np.int64).reshape(-1, 2),
        "live": np.array(list(bank.live), dtype=np.int64),
        "live_weight": np.array([mask.weight for mask in live], dtype=np.int64),
        "live_row": np.array([mask.last_row for mask in live], dtype=np.int64),
        **_ragged("live_voxels", [mask.voxels for mask in live], np.int32),
        **_ragged("live_raw", [np.array(mask.raw) for mask in live], np.int64),
        **_ragged("live_frames", [mask.frames for mask in live], np.uint64),
        **_ragged("live_semantic", [_or_empty(mask.semantic) for mask in live], np.float64),
        **_ragged("live_geometric", [_or_empty(mask.geometric) for mask in live], np.float64),
        "contains": np.array(
            [(a, b, ratio) for a, others in bank.contains.items() for b, ratio in others.items()], dtype=np.float64
        ).reshape(-1, 3),
    }
    for name, part in _parts(scene):
        arrays |= {f"{name}_{key}": value for key, value in part.state().items()}
    header = {
        "format": FORMAT,
        "bank": {"rows": bank.rows, "events": bank.events, "removed": bank.removed},
        "dropped": dict(scene.lifter.dropped),
        "extra": extra,
    }
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    with whole_file(path) as partial, partial.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def load_scene(scene: OnlineScene, path: Path) -> dict[str, Any]:
    """Put a stored state into a new scene of the same settings; returns what was stored beside it.

    Raises InputError for a file that is damaged or of another version.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        header = json.loads(arrays["header"].tobytes())
        if header["format"] != FORMAT:
            raise InputError(f"{path} has format {header['format']}, this version reads {FORMAT}; delete it")
        _fill(scene, arrays, header)
    except InputError:
        raise
    except Exception as error:  # damaged archives raise anything
        raise InputError(f"{path} cannot be read ({one_line(error)}); delete it to start anew") from error
    extra: dict[str, Any] = header["extra"]
    return extra


def _parts(scene: OnlineScene) -> list[tuple[str, Surface | VoxelTable | Visibility | Calibration | ShapeVectors]]:
    """The parts that store themselves, by the beginning of their arrays' names."""
    bank = scene.bank
    return [
        ("surface", scene.surface),
        ("table", bank.table),
        ("visibility", bank.visibility),
        ("calibration", bank.calibration),
        *([] if scene.shapes is None else [("shapes", scene.shapes)]),
    ]


def _fill(scene: OnlineScene, arrays: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    bank = scene.bank
    for name, part in _parts(scene):
        own = {key.removeprefix(f"{name}_"): value for key, value in arrays.items() if key.startswith(f"{name}_")}
        part.restore(own)
    scene.numbers = arrays["numbers"].tolist()
    scene.lifter.dropped.update(header["dropped"])
    bank.rows, bank.events, bank.removed = (header["bank"][key] for key in ("rows", "events", "removed"))
    bank.raw = [RawMask(row, number) for row, number in arrays["raw"].tolist()]
    parts = {name: _unragged(arrays, f"live_{name}") for name in ("voxels", "raw", "frames", "semantic", "geometric")}
    for place, number in enumerate(arrays["live"].tolist()):
        bank.live[number] = LiveMask(
            parts["voxels"][place],
            parts["raw"][place].tolist(),
            parts["frames"][place],
            int(arrays["live_weight"][place]),
            int(arrays["live_row"][place]),
            _or_none(parts["semantic"][place]),
            _or_none(parts["geometric"][place]),
        )
        bank.contains[number] = {}
    for first, second, ratio in arrays["contains"].tolist():
        bank.contains[int(first)][int(second)] = ratio


def _ragged(name: str, parts: Sequence[np.ndarray], dtype: type) -> dict[str, np.ndarray]:
    values = np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype=dtype)
    return {name: values, f"{name}_ends": np.cumsum([len(part) for part in parts], dtype=np.int64)}


def _unragged(arrays: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    ends = arrays[f"{name}_ends"]
    return [part.copy() for part in np.split(arrays[name], ends[:-1])] if len(ends) else []


def _or_empty(vector: np.ndarray | None) -> np.ndarray:
    return np.zeros(0) if vector is None else vector


def _or_none(vector: np.ndarray) -> np.ndarray | None:
    return vector if len(vector) else None
