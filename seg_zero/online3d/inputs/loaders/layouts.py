"""The folder layouts of the data sets. ``open_sequence`` finds out which one a folder has."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from seg_zero.command_line import did_you_mean
from seg_zero.errors import InputError
from seg_zero.files import read_json
from seg_zero.online3d.inputs.loaders.sequence import (
    PICTURES,
    FrameFiles,
    RgbdSequence,
    numbered,
    read_intrinsics,
    read_matrix,
)
from seg_zero.online3d.inputs.loaders.trajectories import matched_times, matrices_in_log, matrices_in_rows, timed_poses

SEVEN_SCENES = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])
SCENE_NN = np.array([[544.47329, 0, 320], [0, 544.47329, 240], [0, 0, 1]])
# By the number after "freiburg" in the folder's name (fx, fy, cx, cy); 0: any other.
TUM = {
    1: (517.3, 516.5, 318.6, 255.3),
    2: (520.9, 521.0, 325.1, 249.7),
    3: (535.4, 539.2, 320.1, 247.6),
    0: (525.0, 525.0, 319.5, 239.5),
}


def _camera(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def _joined(
    colour: dict[int, Path], depth: dict[int, Path], poses: Mapping[int, Path | np.ndarray]
) -> list[FrameFiles]:
    """A frame for every colour picture; what it lacks is found out when it is read."""
    beside = next(iter(depth.values())).parent if depth else Path()
    return [
        FrameFiles(number, path, depth.get(number, beside / f"{number} (none)"), poses.get(number))
        for number, path in sorted(colour.items())
    ]


def _seven_scenes(folder: Path) -> RgbdSequence:
    own = next((path for path in (folder / "camera-intrinsics.txt", folder.parent / "camera-intrinsics.txt")
                if path.exists()), None)  # fmt: skip
    frames = _joined(
        numbered(path for path in folder.glob("frame-*.color.*") if path.suffix in PICTURES),
        numbered(folder.glob("frame-*.depth.png")),
        numbered(folder.glob("frame-*.pose.txt")),
    )
    return RgbdSequence(folder.name, "7-scenes", folder, frames, read_intrinsics(own) if own else SEVEN_SCENES)


def _scannet(folder: Path) -> RgbdSequence:
    places = (folder / "intrinsic" / "intrinsic_depth.txt", folder / "intrinsic_depth.txt")
    camera = next((path for path in places if path.exists()), places[0])
    pictures = [numbered((folder / name).iterdir()) for name in ("color", "depth", "pose")]
    return RgbdSequence(folder.name, "scannet", folder, _joined(*pictures), read_intrinsics(camera), crop=10)


def _scenenn(folder: Path) -> RgbdSequence:
    poses = matrices_in_log(folder / "trajectory.log")
    colour, depth = (numbered((folder / name).iterdir()) for name in ("image", "depth"))
    frames = _joined(colour, depth, poses)
    return RgbdSequence(folder.name, "scenenn", folder, frames, SCENE_NN, settings={"seg_add_interval": 20})


def _tum(folder: Path) -> RgbdSequence:
    colour, depth = timed_poses(folder / "rgb.txt"), timed_poses(folder / "depth.txt")
    poses = timed_poses(folder / "groundtruth.txt")
    places = matched_times(colour.times, depth.times), matched_times(colour.times, poses.times)
    frames = []
    for number, (to_depth, to_pose) in enumerate(zip(*places, strict=True)):
        if to_depth >= 0:
            pose = poses.matrix(to_pose) if to_pose >= 0 else None
            frames.append(FrameFiles(number, folder / colour.words[number][0], folder / depth.words[to_depth][0], pose))
    kind = re.search(r"freiburg(\d)", folder.name)
    camera = _camera(*TUM.get(int(kind[1]) if kind else 0, TUM[0]))
    return RgbdSequence(folder.name, "tum", folder, frames, camera, depth_scale=5000.0)


def _replica(folder: Path) -> RgbdSequence:
    places = (folder / "cam_params.json", folder.parent / "cam_params.json")
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise InputError(f"{places[1]} does not exist; it holds the camera's intrinsics and the depth scale")
    try:
        camera = read_json(path)["camera"]
        matrix, scale = _camera(*(float(camera[name]) for name in ("fx", "fy", "cx", "cy"))), float(camera["scale"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} has no camera with fx, fy, cx, cy and scale ({error!r})") from error
    poses = matrices_in_rows(folder / "traj.txt")
    results = folder / "results"
    colour = numbered(results.glob("frame*"))
    depth = {number: results / f"depth{number:06d}.png" for number in colour} | numbered(results.glob("depth*.png"))
    return RgbdSequence(folder.name, "replica", folder, _joined(colour, depth, poses), matrix, depth_scale=scale)


def _custom(folder: Path) -> RgbdSequence:
    pictures = [numbered((folder / name).iterdir()) for name in ("color", "depth", "poses")]
    scale = folder / "depth_scale.txt"
    return RgbdSequence(
        folder.name,
        "folder",
        folder,
        _joined(*pictures),
        read_intrinsics(folder / "intrinsic_depth.txt"),
        depth_scale=float(read_matrix(scale)[0, 0]) if scale.exists() else 1000.0,
        settings={"seg_add_interval": 20, "depth_far": 8.0},
    )


# Name: how it is read, and the entries by which it is known (a pattern, or a folder).
LAYOUTS: dict[str, tuple[Callable[[Path], RgbdSequence], tuple[str, ...]]] = {
    "7-scenes": (_seven_scenes, ("frame-*.color.*", "frame-*.depth.png")),
    "scannet": (_scannet, ("color", "depth", "pose")),
    "scenenn": (_scenenn, ("image", "depth", "trajectory.log")),
    "tum": (_tum, ("rgb.txt", "depth.txt", "groundtruth.txt")),
    "replica": (_replica, ("results", "traj.txt")),
    "folder": (_custom, ("color", "depth", "poses")),
}


def layout_of(folder: Path) -> str | None:
    """The name of a folder's layout, None if it has none of them."""
    return next((name for name, (_, signs) in LAYOUTS.items() if all(any(folder.glob(sign)) for sign in signs)), None)


def open_sequence(folder: Path, layout: str | None = None) -> RgbdSequence:
    """The sequence in a folder; ``layout`` None finds it out. Raises InputError for what no run could use."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give that of a sequence")
    if layout is not None and layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}{did_you_mean(layout, LAYOUTS) or f'; one of {_names()}'}")
    name = layout or layout_of(folder)
    if name is None:
        raise InputError(f"{folder} has none of the layouts {_names()} (docs/online3d.md shows them)")
    missing = [sign for sign in LAYOUTS[name][1] if not any(folder.glob(sign))]
    if missing:
        raise InputError(f"{folder} has no {' and no '.join(missing)}, which the layout {name} has")
    return LAYOUTS[name][0](folder)


def sequences_in(folder: Path) -> list[Path]:
    """Folders of sequences directly in ``folder`` or one below, in order of their names."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give that of a data set")
    below = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    nested = [inner for path in below for inner in sorted(path.iterdir()) if inner.is_dir()]
    found = [path for path in (*below, *nested) if layout_of(path) is not None]
    if not found:
        raise InputError(f"{folder} holds no folder with a sequence of the layouts {_names()}")
    return found


def _names() -> str:
    return ", ".join(LAYOUTS)
