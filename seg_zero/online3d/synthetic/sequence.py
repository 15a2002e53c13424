"""A camera's way through a synthetic room: frames with noisy depth, masks as a network might find them, the truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import binary_dilation

from seg_zero.online3d.inputs.frames import Frame, FrameMasks
from seg_zero.online3d.surface import back_project
from seg_zero.online3d.synthetic.room import Room, View, look_at, make_room
from seg_zero.online3d.voxels import pack, unpack, voxel_keys


@dataclass(frozen=True)
class Faults:
    """How masks differ from the truth; each is a fraction of the masks, chosen at random frame by frame.

    split: cut in two by a line. merged: joined with a neighbour in the picture. missing: not found.
    """

    split: float = 0.0
    merged: float = 0.0
    missing: float = 0.0


@dataclass(frozen=True)
class SyntheticSequence:
    """Key frames 0, step, 2 step, ... of a camera that circles in a room and looks across it.

    noise: standard deviation of the depth as a fraction of it. holes: fraction of the pixels without depth.
    """

    room: Room = field(default_factory=make_room)
    frames: int = 60
    width: int = 640
    height: int = 480
    noise: float = 0.01
    holes: float = 0.0
    faults: Faults = Faults()
    step: int = 10
    turns: float = 2.0
    seed: int = 0

    def __len__(self) -> int:
        return self.frames

    @property
    def intrinsics(self) -> np.ndarray:
        focal = 0.9 * self.width
        return np.array([[focal, 0, (self.width - 1) / 2], [0, focal, (self.height - 1) / 2], [0, 0, 1]])

    def pose(self, row: int) -> np.ndarray:
        """Camera to world in key frame ``row``: on an ellipse, 1.2 to 1.8 m high, the eyes on the other side."""
        angle = 2 * np.pi * self.turns * row / max(self.frames, 1)
        wide, deep = self.room.size
        eye = np.array([0.33 * wide * np.cos(angle), 0.33 * deep * np.sin(angle), 1.5 + 0.3 * np.sin(3.1 * angle)])
        other = angle + np.pi + 0.7 * np.sin(1.7 * angle)
        target = np.array([0.25 * wide * np.cos(other), 0.25 * deep * np.sin(other), 0.5 + 0.2 * np.cos(2.3 * angle)])
        return look_at(eye, target)

    def view(self, row: int) -> View:
        """What the camera sees in key frame ``row``, without noise."""
        return self.room.look(self.intrinsics, self.pose(row), self.width, self.height)

    def frame(self, row: int, view: View | None = None) -> Frame:
        view = view or self.view(row)
        rng = np.random.default_rng([self.seed, row])
        depth = view.depth * (1 + self.noise * rng.standard_normal(view.depth.shape))
        depth[rng.random(depth.shape) < self.holes] = 0
        return Frame(row * self.step, view.colour, depth.astype(np.float32), self.intrinsics, self.pose(row))

    def masks(self, row: int, view: View | None = None) -> FrameMasks:
        view = view or self.view(row)
        return FrameMasks(faulty_masks(view.ids, self.faults, np.random.default_rng([self.seed, row, 1])))

    def __iter__(self) -> Iterator[tuple[Frame, FrameMasks]]:
        for row in range(self.frames):
            view = self.view(row)
            yield self.frame(row, view), self.masks(row, view)

    def truth(self, voxel_size: float = 0.025, depth_far: float = 5.0, min_hits: int = 3) -> Truth:
        """The surface that at least ``min_hits`` key frames see, with the instance of every point."""
        keys, ids = [], []
        for row in range(self.frames):
            view = self.view(row)
            depth = np.where(view.depth < depth_far, view.depth, 0)
            points = back_project(depth, self.intrinsics, self.pose(row))
            packed, first = np.unique(pack(voxel_keys(points, voxel_size)), return_index=True)
            keys.append(packed)
            ids.append(view.ids[depth > 0][first])
        return truth_of(np.concatenate(keys), np.concatenate(ids), voxel_size, min_hits)


@dataclass(frozen=True)
class Truth:
    """points float32 V x 3; ids int64 V, class * 1000 + instance."""

    points: np.ndarray
    ids: np.ndarray


def truth_of(keys: np.ndarray, ids: np.ndarray, voxel_size: float, min_hits: int) -> Truth:
    """Sightings (packed voxel, id), one of each voxel and key frame, to points: the most frequent id of each voxel."""
    voxels, place, hits = np.unique(keys, return_inverse=True, return_counts=True)
    pairs, counts = np.unique(np.stack([place, ids]), axis=1, return_counts=True)
    order = np.lexsort((-counts, pairs[0]))
    _, first = np.unique(pairs[0][order], return_index=True)
    chosen = pairs[1][order][first]
    seen = hits >= min_hits
    return Truth(((unpack(voxels[seen]) + 0.5) * voxel_size).astype(np.float32), chosen[seen].astype(np.int64))


def faulty_masks(ids: np.ndarray, faults: Faults, rng: np.random.Generator) -> np.ndarray:
    """A label map int32 H x W of the objects in an id map, 1, 2, ... in random order, with faults."""
    masks = {int(name): ids == name for name in rng.permutation(np.unique(ids[ids > 0]))}
    for name in list(masks):
        if name in masks and rng.random() < faults.merged and (other := _neighbour(masks, name, rng)) is not None:
            masks[name] = masks[name] | masks.pop(other)
    labels = np.zeros(ids.shape, dtype=np.int32)
    count = 0
    for inside in masks.values():
        if rng.random() < faults.missing:
            continue
        parts = [inside]
        if rng.random() < faults.split:
            side = _side(inside, rng)
            parts = [inside & side, inside & ~side]
        for part in parts:
            count += 1
            labels[part] = count
    return labels


def _neighbour(masks: dict[int, np.ndarray], name: int, rng: np.random.Generator) -> int | None:
    around = binary_dilation(masks[name], iterations=2)
    touching = [other for other, mask in masks.items() if other != name and (mask & around).any()]
    return int(rng.choice(touching)) if touching else None


def _side(inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One side of a random line near the middle of a mask."""
    v, u = np.nonzero(inside)
    angle = rng.uniform(0, np.pi)
    rows, columns = np.indices(inside.shape)
    along = np.cos(angle) * (columns - u.mean()) + np.sin(angle) * (rows - v.mean())
    own = along[inside]
    return along > rng.uniform(*np.quantile(own, [0.35, 0.65]))
