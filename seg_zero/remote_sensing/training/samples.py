"""Which tile is trained on when: numbered samples, so that a run goes on exactly where it stopped.

Sample n is a tile in a crop and colours that follow from the seed and n alone: not from how many processes or workers
there are, or where the run was resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from seg_zero.remote_sensing.tiles import LabelledTiles
from seg_zero.remote_sensing.training.augmentation import augmented
from seg_zero.remote_sensing.training.settings import AugmentationSettings

_ORDER, _LOOK = 0, 1  # streams of random numbers


@lru_cache(maxsize=2)
def order(tiles: int, seed: int, epoch: int) -> np.ndarray:
    """The tiles in the order of an epoch."""
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(tiles)


class Samples(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Sample n: 3 x S x S uint8 and S x S uint8."""

    def __init__(self, tiles: LabelledTiles, settings: AugmentationSettings, seed: int) -> None:
        self.tiles, self.settings, self.seed = tiles, settings, seed

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, place = divmod(number, len(self.tiles))
        index = int(order(len(self.tiles), self.seed, epoch)[place])
        random = np.random.default_rng([self.seed, _LOOK, number])
        image, labels = augmented(self.tiles.image(index), self.tiles.labels(index), self.settings, random)
        return torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(labels)


class _Numbers(Sampler[int]):
    """The samples of one process from step ``start`` on: in every batch, those of its turn."""

    def __init__(self, start: int, steps: int, batch: int, process: int, processes: int) -> None:
        self.start, self.steps, self.batch = start, steps, batch
        self.own = range(process * batch // processes, (process + 1) * batch // processes)

    def __iter__(self) -> Iterator[int]:
        for step in range(self.start, self.steps):
            yield from (step * self.batch + place for place in self.own)

    def __len__(self) -> int:
        return max(0, self.steps - self.start) * len(self.own)


def loader(
    samples: Samples, *, start: int, steps: int, batch: int, parts: int, process: int, processes: int, workers: int
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Batches from step ``start`` on, each of a step's share of this process in ``parts``."""
    return DataLoader(
        samples,
        batch_size=batch // processes // parts,
        sampler=_Numbers(start, steps, batch, process, processes),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=False,
    )
