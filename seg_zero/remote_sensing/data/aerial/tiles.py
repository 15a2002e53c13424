"""Tiles of the synthetic world, made when they are asked for: the same seed gives the same tiles.

tiles = AerialTiles("plane", count=200, classes=TRAINED)
tiles.image(0), tiles.labels(0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.files import check_folder_place, make_folder, write_image, write_json
from seg_zero.remote_sensing.data.aerial.sensors import SENSORS, kept_labels, render, sensor_named
from seg_zero.remote_sensing.data.aerial.world import CLASSES, OTHER_NAMES, TRAINED, UNSEEN, make_patch

WORLD = 1 << 20  # patches of one sensor before those of the next, so that no two show the same place
_KEPT = 512  # tiles that are remembered


@dataclass(frozen=True)
class AerialTiles:
    """Tiles of one sensor (:class:`seg_zero.remote_sensing.tiles.LabelledTiles`).

    classes: names of the world, whose pixels alone count; others are ignored. names: other words for them, in their
    order. start: number of the first patch: tiles of other ranges show other places.
    """

    sensor: str
    count: int
    seed: int = 0
    size: int = 256
    kept: tuple[str, ...] = CLASSES
    names: tuple[str, ...] | None = None
    start: int = 0
    classes: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        sensor_named(self.sensor)
        if self.count < 1 or self.size < 32:
            raise InputError(f"{self.count} tiles of {self.size} pixels; give at least 1 tile, and 32 pixels")
        strange = [name for name in self.kept if name not in CLASSES]
        if strange or not self.kept:
            raise InputError(f"classes {', '.join(strange) or 'of none'}: the world has {', '.join(CLASSES)}")
        if self.names is not None and len(self.names) != len(self.kept):
            raise InputError(f"{len(self.names)} names for {len(self.kept)} classes; give one for each")
        object.__setattr__(self, "classes", self.names or self.kept)

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{self.sensor}_{self.start + index:05d}"

    def image(self, index: int) -> np.ndarray:
        """size x size x 3 uint8."""
        return self._made(index)[0]

    def labels(self, index: int) -> np.ndarray:
        """size x size uint8, indices of ``classes``; 255 is ignored."""
        return kept_labels(self._made(index)[1], self.kept)

    def _made(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return _tile(self.sensor, self.seed, self.start + index, self.size)


@lru_cache(maxsize=_KEPT)
def _tile(sensor: str, seed: int, number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    seen = SENSORS[sensor]
    place = list(SENSORS).index(sensor) * WORLD + number
    patch = make_patch(seed * (2 * WORLD) + place, size * seen.metres)
    return render(patch, seen, size)


def other_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Words for the classes that no training sees."""
    return tuple(OTHER_NAMES[name] for name in classes)


def write_world(out: Path, train: int, evaluate: int, seed: int = 0, size: int = 256) -> dict[str, AerialTiles]:
    """Write the world as folders that ``open_tiles("folder", ...)`` reads; returns the tiles by folder.

    train, val: the first sensor with the trained classes alone; transfer: the second sensor with all classes;
    transfer_names: the same under other names. Raises InputError where the folder cannot be written.
    """
    check_folder_place(out)
    first, second = SENSORS
    everything = other_names(CLASSES)
    parts = {
        f"{first}/train": AerialTiles(first, train, seed, size, TRAINED),
        f"{first}/val": AerialTiles(first, evaluate, seed, size, TRAINED, start=WORLD // 2),
        f"{second}_transfer": AerialTiles(second, evaluate, seed, size),
        f"{second}_other_names": AerialTiles(second, evaluate, seed, size, names=everything),
    }
    for name, tiles in parts.items():
        folder = make_folder(out / name)
        write_json(folder / "classes.json", list(tiles.classes))
        for index in range(len(tiles)):
            write_image(folder / "images" / f"{tiles.name(index)}.png", Image.fromarray(tiles.image(index)))
            write_image(folder / "labels" / f"{tiles.name(index)}.png", Image.fromarray(tiles.labels(index)))
    write_json(out / first / "classes.json", list(TRAINED))
    write_json(out / "world.json", {"seed": seed, "size": size, "trained": list(TRAINED), "unseen": list(UNSEEN)})
    return parts
