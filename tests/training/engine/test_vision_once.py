"""Each image passes through the vision tower once, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_models import make_config, make_processor
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing import spawn

from seg_zero.policy.families import FAMILIES
from seg_zero.training.engine.vision_once import VisionOnce

SMALL, LARGE = (1, 4, 4), (1, 4, 8)  # patches per axis


class Tower:
    """A randomly initialised vision tower of a family, and how many patches it was given."""

    def __init__(self, family: str) -> None:
        from transformers import AutoModelForImageTextToText

        torch.manual_seed(0)
        config = make_config(family, make_processor(family).tokenizer)
        self.module = AutoModelForImageTextToText.from_config(config).model.visual.eval()
        self.plain = self.module.forward
        self.patches = 0
        self.module.patch_embed.register_forward_hook(self._count)

    def _count(self, _module: Any, inputs: Any, _output: Any) -> None:
        self.patches += len(inputs[0])

    def image(self, seed: int, grid: tuple[int, int, int]) -> torch.Tensor:
        width = self.module.patch_embed.proj.weight[0].numel()
        return torch.randn(grid[0] * grid[1] * grid[2], width, generator=torch.Generator().manual_seed(seed))

    def batch(self, *images: tuple[int, tuple[int, int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixel values and grids of images given by seed and grid."""
        return torch.cat([self.image(*one) for one in images]), torch.tensor([grid for _, grid in images])

    def seen(self) -> int:
        patches, self.patches = self.patches, 0
        return patches


@pytest.fixture(params=sorted(FAMILIES))
def tower(request: pytest.FixtureRequest) -> Iterator[Tower]:
    yield Tower(request.param)


def features(output: Any) -> list[torch.Tensor]:
    return [output.pooler_output, *(output.get("deepstack_features") or [])]


REPEATED = ((1, SMALL), (2, LARGE), (1, SMALL), (3, SMALL), (2, LARGE), (1, SMALL))


def test_features_and_gradients_are_those_of_the_tower(tower: Tower) -> None:
    pixels, grids = tower.batch(*REPEATED)
    gradients = []
    for forward in (tower.plain, VisionOnce(tower.module)):
        tower.module.zero_grad()
        tower.seen()
        out = features(forward(pixels, grid_thw=grids))
        sum((part * torch.linspace(-1, 1, part.numel()).view_as(part)).sum() for part in out).backward()
        gradients.append((tower.seen(), out, [w.grad.clone() for w in tower.module.parameters() if w.grad is not None]))
    (all_patches, expected, expected_grads), (patches, found, found_grads) = gradients
    assert (all_patches, patches) == (3 * 16 + 2 * 32 + 16, 16 + 32 + 16)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert len(found_grads) == len(expected_grads) > 0
    scale = max(float(grad.abs().max()) for grad in expected_grads)
    torch.testing.assert_close(found_grads, expected_grads, rtol=1e-3, atol=1e-5 * scale)


def test_a_tower_that_is_not_trained_keeps_what_it_computed(tower: Tower) -> None:
    tower.module.requires_grad_(False)
    once = VisionOnce(tower.module)
    first = features(once(*tower.batch((1, SMALL), (2, LARGE))))
    assert tower.seen() == 16 + 32 and not first[0].requires_grad
    again = features(once(*tower.batch((2, LARGE), (3, SMALL), (1, SMALL))))
    assert tower.seen() == 16
    expected = features(tower.plain(*tower.batch((2, LARGE), (3, SMALL), (1, SMALL))))
    torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-5)


def test_training_the_tower_forgets_what_was_kept(tower: Tower) -> None:
    once = VisionOnce(tower.module)
    pixels, grids = tower.batch((1, SMALL))
    with torch.no_grad():
        old = once(pixels, grids).pooler_output
        assert once(pixels, grids).pooler_output.equal(old) and tower.seen() == 16
    once(pixels, grids).pooler_output.sum().backward()
    with torch.no_grad():
        for weight in tower.module.parameters():
            weight += 0.01
        new = once(pixels, grids).pooler_output
        torch.testing.assert_close(new, tower.plain(pixels, grid_thw=grids).pooler_output)
    assert not torch.allclose(new, old)


def test_images_that_differ_in_one_value_or_in_their_shape_are_not_confused(tower: Tower) -> None:
    tower.module.requires_grad_(False)
    once = VisionOnce(tower.module)
    pixels = tower.image(1, LARGE)
    changed, swapped = pixels.clone(), pixels.clone()
    changed[7, 5] += 1e-6
    swapped[[3, 4]] = pixels[[4, 3]]
    for other in (pixels, changed, swapped, -pixels):
        once(other, torch.tensor([LARGE]))
    once(pixels, torch.tensor([(1, 8, 4)]))
    assert tower.seen() == 5 * 32


def test_the_oldest_go_when_there_are_too_many(tower: Tower) -> None:
    tower.module.requires_grad_(False)
    size = sum(part.nbytes for part in features(tower.plain(*tower.batch((1, SMALL)))))
    once = VisionOnce(tower.module, keep_bytes=2 * size)
    for seed in (1, 2, 1, 3):
        once(*tower.batch((seed, SMALL)))
    tower.seen()
    once(*tower.batch((1, SMALL)))
    assert tower.seen() == 0
    once(*tower.batch((2, SMALL)))
    assert tower.seen() == 16


def _rank(rank: int, store: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{store}", timedelta(seconds=60), rank=rank, world_size=2)
    whole, tower = Tower("qwen2_5_vl"), Tower("qwen2_5_vl")
    tower.module.requires_grad_(False)
    for block in tower.module.blocks:
        fully_shard(block)
    tower.module.forward = VisionOnce(tower.module)
    once = fully_shard(tower.module)
    calls = [(1, 1), (1, 2), (2, 2), (1, 1)]  # the image of each rank; in the second call only rank 1 has a new one
    computed = []
    for seeds in calls:
        pixels, grids = tower.batch((seeds[rank], SMALL))
        torch.testing.assert_close(once(pixels, grids).pooler_output, whole.plain(pixels, grids).pooler_output)
        computed.append(tower.seen())
    assert computed == [16, 16, 16, 0], computed
    torch.distributed.destroy_process_group()


def test_ranks_call_a_sharded_tower_together_or_not_at_all(tmp_path: Path) -> None:
    """A rank that has its images already would leave the others waiting for its part of the weights."""
    spawn(_rank, (str(tmp_path / "store"),), nprocs=2)
