"""Live masks to instances: points of the surface, each of at most one instance, the largest cluster of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seg_zero.online3d.bank import MaskBank
from seg_zero.online3d.kernels import clusters_of
from seg_zero.online3d.lifting import largest_cluster
from seg_zero.online3d.surface import Surface
from seg_zero.online3d.voxels import VoxelIndex, half_ball


@dataclass(frozen=True)
class Instance:
    """An object.

    number: of its live mask, stable until it is merged into another. voxels: numbers of its surface voxels, ascending.
    points, colours: their centres float32 N x 3 in metres and colours uint8 N x 3. weight: raw masks it consists of.
    frames: numbers of the key frames with those masks. feature: unit vector, or None.
    """

    number: int
    voxels: np.ndarray
    points: np.ndarray
    colours: np.ndarray
    weight: int
    frames: np.ndarray
    feature: np.ndarray | None

    @property
    def centre(self) -> np.ndarray:
        mean: np.ndarray = self.points.mean(0)
        return mean

    @property
    def extent(self) -> np.ndarray:
        """Edges of the box around it, in metres."""
        edges: np.ndarray = self.points.max(0) - self.points.min(0)
        return edges


def instances_of(bank: MaskBank, surface: Surface, frame_numbers: list[int]) -> list[Instance]:
    """Instances of a scene, largest first, vectors with their instance whatever the order.

    A point that several masks hold goes to the smallest of them. As released (``compat``), it stays in all.
    """
    config = bank.config
    hits = surface.hits()
    found = {}
    for number in bank.valid():
        voxels = np.sort(bank.live[number].voxels)
        points = voxels[hits[voxels] >= config.min_hits]
        if len(points) >= config.min_surface_points:
            found[number] = points
    if not config.released:
        found = _apart(found, len(surface.index))
    local = np.full(len(surface.index), -1, dtype=np.int32)
    steps = half_ball(config.instance_eps, config.voxel_size)
    instances = []
    for number, voxels in found.items():
        kept = voxels[_largest(surface.index, voxels, local, steps)]
        if len(kept) <= config.min_instance_points:
            continue
        mask = bank.live[number]
        rows = bank.rows_of(number)
        instances.append(
            Instance(
                number,
                kept,
                surface.centres(kept),
                surface.colours(kept),
                mask.weight,
                np.array(frame_numbers, dtype=np.int64)[rows],
                _unit(mask.semantic),
            )
        )
    return sorted(instances, key=lambda one: (-len(one.voxels), one.number))


def _apart(found: dict[int, np.ndarray], count: int) -> dict[int, np.ndarray]:
    """Each voxel only in the smallest of the sets that hold it."""
    owner = np.full(count, -1, dtype=np.int64)
    for number, voxels in sorted(found.items(), key=lambda item: (-len(item[1]), item[0])):
        owner[voxels] = number
    return {number: voxels[owner[voxels] == number] for number, voxels in found.items()}


def _largest(index: VoxelIndex, voxels: np.ndarray, local: np.ndarray, steps: np.ndarray) -> np.ndarray:
    if not len(voxels):
        return np.zeros(0, dtype=bool)
    clusters, _ = clusters_of(*index.table, index.packed, voxels, local, steps, 1)
    return largest_cluster(clusters)


def _unit(vector: np.ndarray | None) -> np.ndarray | None:
    if vector is None:
        return None
    length = float(np.linalg.norm(vector))
    return (vector / length if length > 0 else vector).astype(np.float32)


def point_masks(instances: list[Instance], points: np.ndarray) -> np.ndarray:
    """Bool P x N: which of the surface's voxels ``points`` (numbers, ascending) belong to which instance."""
    masks = np.zeros((len(points), len(instances)), dtype=bool)
    for column, instance in enumerate(instances):
        masks[np.searchsorted(points, instance.voxels), column] = True
    return masks
