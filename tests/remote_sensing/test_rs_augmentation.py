"""Augmentation: picture and labels stay together, sizes, colours, and the same sample for the same number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.remote_sensing import Halves

from seg_zero.errors import InputError
from seg_zero.remote_sensing.training.augmentation import PADDING, augmented, cropped, recoloured, shrunk
from seg_zero.remote_sensing.training.samples import Samples, loader
from seg_zero.remote_sensing.training.settings import AugmentationSettings

PLAIN = AugmentationSettings(side=32, max_side=100, colour=False)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(6))
def test_labels_follow_the_picture(seed: int) -> None:
    tiles = Halves()
    image, labels = augmented(tiles.image(2), tiles.labels(2), PLAIN, rng(seed))
    assert image.shape == (32, 32, 3) and labels.shape == (32, 32)
    counts = labels != 255
    # Resizing blurs the border of two colours by a pixel.
    agree = (image[..., 2] > image[..., 1])[counts] == (labels[counts] == 1)
    assert agree.mean() > 0.95


@pytest.mark.parametrize(
    ("size", "wanted"), [((64, 96), (32, 48)), ((96, 64), (48, 32)), ((32, 32), (32, 32)), ((20, 200), (10, 100))]
)
def test_scaling_is_by_the_shorter_side_within_the_longer(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    image, labels = shrunk(np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8), PLAIN)
    assert image.shape[:2] == labels.shape == wanted


def test_what_lies_outside_is_grey_and_ignored() -> None:
    image, labels = cropped(np.zeros((10, 40, 3), np.uint8), np.zeros((10, 40), np.uint8), 32, rng())
    assert image.shape == (32, 32, 3)
    assert (image[10:] == PADDING).all() and (labels[10:] == 255).all() and not labels[:10].any()


def test_colours_change_and_keep_their_range() -> None:
    image = rng().integers(0, 256, (16, 16, 3), dtype=np.uint8)
    changed = [recoloured(image, rng(seed)) for seed in range(20)]
    assert all(one.dtype == np.uint8 and one.shape == image.shape for one in changed)
    different = sum(not np.array_equal(one, image) for one in changed)
    assert different > 15
    grey = np.full((4, 4, 3), 100, np.uint8)
    means = [recoloured(grey, rng(seed)).mean() for seed in range(200)]
    assert min(means) >= (100 - 32) * 0.5 - 1 and max(means) <= (100 + 32) * 1.5 + 1 and np.std(means) > 10


def test_half_of_the_samples_are_flipped() -> None:
    tiles, flips = Halves(1, 32, 32), 0
    for seed in range(200):
        image, _ = augmented(tiles.image(0), tiles.labels(0), PLAIN, rng(seed))
        flips += bool(image[16, 0, 2] > 0)
    assert 70 < flips < 130


def test_a_sample_follows_from_its_number_alone() -> None:
    settings = AugmentationSettings(side=32, max_side=100)
    first, second = Samples(Halves(), settings, 3), Samples(Halves(), settings, 3)
    for number in (0, 7, 100):
        assert all(torch.equal(a, b) for a, b in zip(first[number], second[number], strict=True))
    other = Samples(Halves(), settings, 4)
    assert any(not torch.equal(first[number][0], other[number][0]) for number in range(5))


def test_processes_share_a_batch_and_resuming_goes_on() -> None:
    samples = Samples(Halves(), PLAIN, 0)

    def numbers(start: int, process: int, processes: int, parts: int = 1) -> list[list[int]]:
        made = loader(
            samples, start=start, steps=3, batch=4, parts=parts, process=process, processes=processes, workers=0
        )
        return [list(batch) for batch in made.batch_sampler]  # type: ignore[union-attr]

    assert numbers(0, 0, 1) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert numbers(1, 0, 2) == [[4, 5], [8, 9]] and numbers(1, 1, 2) == [[6, 7], [10, 11]]
    assert numbers(2, 0, 1, parts=2) == [[8, 9], [10, 11]]


def test_settings_out_of_range() -> None:
    with pytest.raises(InputError, match="no probability"):
        AugmentationSettings(flip=2.0)
