"""A scan as a recording for the viewer of rerun: points, objects, the camera's way, and what it saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seg_zero.files import whole_file
from seg_zero.online3d.answers.naming import read_names
from seg_zero.online3d.inputs.frames import BadFrame, Frame
from seg_zero.online3d.inputs.loaders.layouts import open_sequence
from seg_zero.online3d.page.write import sample, title_of, upright
from seg_zero.online3d.questions import FinishedScan, open_scan
from seg_zero.online3d.results.files import GREY, colour_of
from seg_zero.online3d.results.views import InstanceViews

if TYPE_CHECKING:
    from rerun import RecordingStream

_TIMELINE = "frame"
# Parts of paths, in which names may hold anything.
_WORLD: list[object] = ["world"]
_CAMERA: list[object] = ["world", "camera"]
_JPEG = 85  # quality of the pictures


def write_recording(folder: Path, path: Path, max_points: int = 150_000) -> list[str]:
    """Write the scan in ``folder`` to the file ``path`` (.rrd), with at most ``max_points`` points.

    The key frames are read again from the sequence; returns the problems of those that cannot be. Raises InputError if
    there is no scan, or no sequence any more. Needs the extra ``rerun``.
    """
    import rerun as rr

    scan = open_scan(folder)
    sequence = open_sequence(Path(scan.summary.sequence), scan.summary.layout)
    names = _names(scan)
    problems = []
    with whole_file(path) as partial, rr.RecordingStream("seg-zero scan") as stream:
        stream.save(partial)
        stream.send_recording_name(title_of(scan.summary, folder.resolve().name))
        _log_objects(stream, scan, names, max_points)
        views = InstanceViews(scan.result, scan.config.voxel_size)
        for key in sequence.key_frames(scan.config.seg_add_interval):
            try:
                frame = sequence.read(key)
            except BadFrame as problem:
                problems.append(str(problem))
                continue
            _log_frame(stream, frame, views.see(frame))
        stream.disconnect()  # all is in the file before it gets its name
    return problems


def _names(scan: FinishedScan) -> list[str]:
    """What each object is called: its number in the list of the page, and its name if it has one."""
    given: Sequence[str] = read_names(scan.folder, scan.result) or [""] * scan.result.count
    return [f"{column + 1} {name}".strip() for column, name in enumerate(given)]


def _log_objects(stream: RecordingStream, scan: FinishedScan, names: Sequence[str], max_points: int) -> None:
    """All that does not change: which way is up, points in the pictures' colours, each object, names and colours."""
    import rerun as rr

    result = scan.result
    chosen = sample(len(result.points), max_points)
    points, owner, radius = result.points[chosen], result.owner[chosen], scan.config.voxel_size / 2
    stream.log("/", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    stream.log(_WORLD, rr.Transform3D(mat3x3=upright(scan.summary.up)), static=True)
    classes = [(0, "no object", (0, 0, 0, 0)), *((i + 1, name, colour_of(i)) for i, name in enumerate(names))]
    stream.log("/", rr.AnnotationContext(classes), static=True)
    stream.log([*_WORLD, "points"], rr.Points3D(points, colors=result.colours[chosen], radii=radius), static=True)
    for column, name in enumerate(["no object", *names], -1):
        mine, colour = points[owner == column], GREY if column < 0 else colour_of(column)
        stream.log([*_WORLD, "objects", name], rr.Points3D(mine, colors=colour, radii=radius), static=True)


def _log_frame(stream: RecordingStream, frame: Frame, seen: np.ndarray) -> None:
    """A key frame at its number: the camera, its picture, and over that the objects int H x W (-1: none)."""
    import rerun as rr

    height, width = seen.shape
    stream.set_time(_TIMELINE, sequence=frame.number)
    stream.log(_CAMERA, rr.Transform3D(translation=frame.pose[:3, 3], mat3x3=frame.pose[:3, :3]))
    stream.log(_CAMERA, rr.Pinhole(image_from_camera=frame.intrinsics, resolution=[width, height]))
    stream.log([*_CAMERA, "picture"], rr.Image(frame.colour).compress(jpeg_quality=_JPEG))
    stream.log([*_CAMERA, "objects"], rr.SegmentationImage((seen + 1).astype(np.uint16), opacity=0.5))
