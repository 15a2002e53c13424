"""A sequence of colour and depth pictures with poses: what all layouts come to, and reading of single frames."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.errors import InputError, one_line
from seg_zero.files import read_text
from seg_zero.images import load_image
from seg_zero.online3d.inputs.frames import BadFrame, Frame

PICTURES = (".png", ".jpg", ".jpeg")
NO_DEPTH = 65535  # 7-Scenes and others write it where the sensor saw nothing
_ASPECT = 0.03
_SHOWN = 3


@dataclass(frozen=True)
class FrameFiles:
    """One frame on disk. pose: a text file, the matrix 4 x 4, or None if it has none."""

    number: int
    colour: Path
    depth: Path
    pose: Path | np.ndarray | None


@dataclass(frozen=True)
class KeyFrame:
    """A frame that a scan uses. pose: its own, the last valid one before it, or None if there is none so far."""

    files: FrameFiles
    pose: np.ndarray | None
    borrowed: bool = False

    @property
    def number(self) -> int:
        return self.files.number


@dataclass(frozen=True)
class RgbdSequence:
    """Frames in order of their numbers.

    intrinsics: 3 x 3, of the depth pictures. depth_scale: units of the depth pictures in a metre. crop: pixels cut off
    on every side. settings: where the original's configuration of this data set differs from the default.
    """

    name: str
    layout: str
    folder: Path
    frames: list[FrameFiles]
    intrinsics: np.ndarray
    depth_scale: float = 1000.0
    crop: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.frames:
            raise InputError(f"{self.folder} holds no frames of the layout {self.layout}; check the folder")
        if self.intrinsics.shape != (3, 3) or not np.isfinite(self.intrinsics).all() or self.intrinsics[0, 0] <= 0:
            raise InputError(f"{self.folder}: the intrinsics {self.intrinsics.tolist()} are no camera matrix 3 x 3")
        if not self.depth_scale > 0:
            raise InputError(f"{self.folder}: depth scale {self.depth_scale} is not above 0; 1000 means millimetres")

    def key_frames(self, interval: int) -> list[KeyFrame]:
        """The first frame, and then each whose number is at least ``interval`` above that of the one before."""
        chosen: list[FrameFiles] = []
        for frame in self.frames:
            if not chosen or frame.number >= chosen[-1].number + interval:
                chosen.append(frame)
        out: list[KeyFrame] = []
        last: np.ndarray | None = None
        for frame in chosen:
            own = _pose_of(frame.pose)
            out.append(KeyFrame(frame, last if own is None else own, own is None))
            last = last if own is None else own
        if last is None:
            raise InputError(f"{self.folder}: none of {len(chosen)} key frames has a valid pose; check the trajectory")
        return out

    def gaps(self) -> str:
        """In words where numbers are missing, compared with the usual step; empty if nowhere."""
        numbers = np.array([frame.number for frame in self.frames])
        if len(numbers) < 3:
            return ""
        steps = np.diff(numbers)
        counts = Counter(steps.tolist())
        usual = min(counts, key=lambda step: (-counts[step], step))
        wide = np.flatnonzero(steps > usual)
        if not len(wide):
            return ""
        shown = ", ".join(f"{numbers[i]} to {numbers[i + 1]}" for i in wide[:_SHOWN])
        more = f" and {len(wide) - _SHOWN} more" if len(wide) > _SHOWN else ""
        return f"{len(wide)} gap(s) in the numbering: frames {shown}{more}"

    def read(self, key: KeyFrame) -> Frame:
        """Read one frame. Raises BadFrame, which names it, if it cannot be used."""
        number = key.number
        if key.pose is None:
            raise BadFrame(f"frame {number}: no valid pose so far; its own is missing or holds NaN")
        depth = self._depth(key.files)
        try:
            colour = load_image(key.files.colour)
        except InputError as error:
            raise BadFrame(f"frame {number}: {error}") from error
        if colour.size != depth.shape[::-1]:
            wide, high = colour.size
            if abs(wide / high / (depth.shape[1] / depth.shape[0]) - 1) > _ASPECT:
                raise BadFrame(
                    f"frame {number}: colour is {wide}x{high} and depth {depth.shape[1]}x{depth.shape[0]} pixels, "
                    "which is another shape; register depth to colour"
                )
            colour = colour.resize(depth.shape[::-1], Image.Resampling.NEAREST)
        cut = slice(self.crop, -self.crop or None)
        intrinsics = self.intrinsics.astype(np.float64)
        intrinsics[:2, 2] -= self.crop
        return Frame(number, np.asarray(colour)[cut, cut], depth[cut, cut], intrinsics, key.pose, self.crop)

    def _depth(self, files: FrameFiles) -> np.ndarray:
        try:
            with Image.open(files.depth) as image:
                raw = np.asarray(image)
        except FileNotFoundError as error:
            raise BadFrame(f"frame {files.number}: there is no depth picture {files.depth.name}") from error
        except Exception as error:  # decoders raise anything for damaged files
            raise BadFrame(f"frame {files.number}: {files.depth.name} cannot be read ({one_line(error)})") from error
        if raw.ndim != 2 or raw.dtype.kind not in "iu":
            raise BadFrame(f"frame {files.number}: {files.depth.name} is no 16-bit grey picture")
        depth = np.where(raw == NO_DEPTH, 0, raw).astype(np.float32) / np.float32(self.depth_scale)
        if not (depth > 0).any():
            raise BadFrame(f"frame {files.number}: {files.depth.name} holds no depth")
        return depth


def numbered(paths: Iterable[Path]) -> dict[int, Path]:
    """Pictures and texts by the last number in their names."""
    found = {}
    for path in sorted(paths):
        digits = re.findall(r"\d+", path.stem)
        if digits and path.suffix.lower() in (*PICTURES, ".txt"):
            found[int(digits[-1])] = path
    return found


def read_matrix(path: Path) -> np.ndarray:
    """Numbers of a text file as rows. Raises InputError if there are none or rows differ in length."""
    try:
        rows = [[float(word) for word in line.replace(",", " ").split()] for line in read_text(path).splitlines()]
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; it holds the camera's intrinsics") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as numbers ({one_line(error)})") from error
    rows = [row for row in rows if row]
    if not rows or len({len(row) for row in rows}) != 1:
        raise InputError(f"{path} holds no matrix of numbers")
    return np.array(rows)


def read_intrinsics(path: Path) -> np.ndarray:
    """The upper left 3 x 3 of a matrix in a text file."""
    matrix = read_matrix(path)
    if min(matrix.shape) < 3:
        raise InputError(f"{path} holds a matrix {matrix.shape[0]} x {matrix.shape[1]}; a camera has 3 x 3")
    return matrix[:3, :3]


def _pose_of(given: Path | np.ndarray | None) -> np.ndarray | None:
    """A camera's pose, or None if it is missing, damaged or not finite."""
    if isinstance(given, Path):
        try:
            given = read_matrix(given)
        except InputError:
            return None
    if given is None or given.shape != (4, 4) or not np.isfinite(given).all():
        return None
    return given.astype(np.float64)
