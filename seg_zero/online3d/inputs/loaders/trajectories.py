"""Camera trajectories in files: logs of matrices, matrices in rows, and times with quaternions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seg_zero.errors import InputError, one_line
from seg_zero.files import read_text

_MAX_DELAY = 0.02  # seconds between two pictures or poses of one moment (TUM's own tool)


def _lines(path: Path) -> list[list[str]]:
    try:
        text = read_text(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({one_line(error)})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text file") from error
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _floats(words: list[str]) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError:
        return [float("nan")] * len(words)  # an invalid pose, as one with NaN


def matrices_in_log(path: Path) -> dict[int, np.ndarray]:
    """Blocks of five lines: numbers of which the last is the frame's, then 4 x 4."""
    lines = _lines(path)
    if len(lines) % 5 or not lines:
        raise InputError(f"{path} has {len(lines)} lines; a trajectory has five for every frame")
    poses = {}
    for start in range(0, len(lines), 5):
        number = lines[start][-1]
        if not number.isdigit():
            raise InputError(f"{path}: block {start // 5 + 1} begins with {' '.join(lines[start])!r}, not with numbers")
        rows = [_floats(line) for line in lines[start + 1 : start + 5]]
        poses[int(number)] = np.array(rows) if all(len(row) == 4 for row in rows) else np.full((4, 4), np.nan)
    return poses


def matrices_in_rows(path: Path) -> dict[int, np.ndarray]:
    """One matrix 4 x 4 a line, for frames 0, 1, ..."""
    rows = [_floats(line) for line in _lines(path)]
    if not rows:
        raise InputError(f"{path} is empty; it holds one pose a line")
    return {i: np.array(row).reshape(4, 4) for i, row in enumerate(rows) if len(row) == 16}


@dataclass(frozen=True)
class Timed:
    """Lines that begin with a time in seconds: times T, ascending, and the other words of each."""

    times: np.ndarray
    words: list[list[str]]

    def matrix(self, place: int) -> np.ndarray:
        """The pose in line ``place``: tx ty tz qx qy qz qw."""
        values = _floats(self.words[place][:7])
        pose = np.eye(4)
        quaternion = np.array(values[3:])
        length = np.linalg.norm(quaternion)
        if len(values) != 7 or not length > 0:
            return np.full((4, 4), np.nan)
        x, y, z, w = quaternion / length
        pose[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        pose[:3, 3] = values[:3]
        return pose


def timed_poses(path: Path) -> Timed:
    lines = sorted((line for line in _lines(path) if len(line) > 1), key=lambda line: _floats(line[:1])[0])
    if not lines:
        raise InputError(f"{path} holds no lines of a time and a value")
    return Timed(np.array([_floats(line[:1])[0] for line in lines]), [line[1:] for line in lines])


def matched_times(times: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The place of the nearest of ``others`` for each time, -1 if it is more than 0.02 s away."""
    right = np.searchsorted(others, times).clip(1, max(len(others) - 1, 1))
    left = right - 1
    right = right.clip(max=len(others) - 1)
    nearest = np.where(np.abs(others[right] - times) < np.abs(others[left] - times), right, left)
    matched: np.ndarray = np.where(np.abs(others[nearest] - times) <= _MAX_DELAY, nearest, -1)
    return matched
