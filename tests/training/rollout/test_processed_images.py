"""The image processor's work is done once for an image, and its results are the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_models import make_processor
from PIL import Image
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

from seg_zero.policy.families import FAMILIES
from seg_zero.training.launch.config import load_config
from seg_zero.training.rollout.agent_loop import SeededAgentLoop
from seg_zero.training.rollout.processed_images import ProcessedImages, process_once


def picture(seed: int, size: tuple[int, int] = (112, 84)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_processor_gives_the_same_as_before_and_works_once(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, processor = make_processor(family), make_processor(family)
    process_once(processor.image_processor)
    process_once(processor.image_processor)
    worked: list[int] = []
    work = type(processor.image_processor)._preprocess
    monkeypatch.setattr(
        type(processor.image_processor), "_preprocess", lambda *a, **k: worked.append(1) or work(*a, **k)
    )
    text = "<|vision_start|><|image_pad|><|vision_end|>what"
    for image, calls in ((picture(1), 1), (picture(2), 1), (picture(1), 0), (picture(2).copy(), 0)):
        worked.clear()
        found = processor(text=[text], images=[image], return_tensors="pt")
        assert len(worked) == calls
        expected = plain(text=[text], images=[image], return_tensors="pt")
        assert found.keys() == expected.keys()
        for name in expected:
            assert torch.equal(torch.as_tensor(found[name]), torch.as_tensor(expected[name])), name


@pytest.mark.parametrize("on", [True, False])
def test_a_rollout_processes_images_once_where_it_is_switched_on(on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Off, the processor is verl's own."""

    def upstream(loop: Any, config: Any, processor: Any) -> None:
        loop.config, loop.processor, loop.server_manager = config, processor, None

    monkeypatch.setattr(SingleTurnAgentLoop, "__init__", upstream)
    processor = make_processor("qwen2_5_vl")
    plain = type(processor.image_processor).preprocess
    SeededAgentLoop(load_config([f"engine.processed_images_once={str(on).lower()}"]), processor)
    assert isinstance(processor.image_processor.preprocess, ProcessedImages) is on
    assert on or processor.image_processor.preprocess.__func__ is plain


class Work:
    """Counts calls; gives the mean of the images, or of the values given."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images: Any, **kwargs: Any) -> dict[str, Any]:
        self.calls += 1
        return {"pixel_values": np.full(1000, np.mean(images), dtype=np.float32), "kwargs": kwargs}


@pytest.mark.parametrize(
    ("images", "settings"),
    [
        ([picture(2)], {}),
        ([picture(1, (84, 112))], {}),
        ([picture(1), picture(1)], {}),
        ([picture(1).convert("L")], {}),
        ([picture(1)], {"max_pixels": 7}),
    ],
)
def test_other_images_and_settings_are_other_work(images: list[Image.Image], settings: dict[str, Any]) -> None:
    work = Work()
    once = ProcessedImages(work)
    once([picture(1)])
    once(images, **settings)
    assert work.calls == 2


def test_what_are_no_pictures_is_passed_on() -> None:
    work = Work()
    once = ProcessedImages(work)
    for _ in range(2):
        once(np.zeros((3, 4, 4)))
    assert work.calls == 2


def test_threads_that_begin_together_share_the_work() -> None:
    work = Work()
    once = ProcessedImages(work)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: once([picture(1)]), range(64)))
    assert work.calls == 1


def test_the_oldest_go_when_there_are_too_many() -> None:
    work = Work()
    once = ProcessedImages(work, keep_bytes=8000)  # two results
    for seed in (1, 2, 1, 3, 1):
        once([picture(seed)])
    assert work.calls == 3
    once([picture(2)])
    assert work.calls == 4
