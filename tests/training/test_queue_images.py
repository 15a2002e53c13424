"""Pixels are stored once for a question, and found again by its answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from verl.utils import tensordict_utils as tu

from seg_zero.training import queue_images


class Queue:
    """verl's queue as far as images go there, with its rule that equal shapes are stacked and others nested."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, torch.Tensor]] = {}
        self.fetched: list[list[str]] = []

    async def async_kv_put(self, key: str, partition_id: str, fields: Any, tag: Any) -> None:
        assert partition_id == queue_images.PARTITION
        self.stored[key] = fields

    def kv_batch_get(self, keys: list[str], partition_id: str) -> dict[str, torch.Tensor]:
        self.fetched.append(keys)
        found = {}
        for name in self.stored[keys[0]]:
            values = [self.stored[key][name] for key in keys]
            same = len({value.shape for value in values}) == 1
            found[name] = torch.stack(values) if same else torch.nested.as_nested_tensor(values, layout=torch.jagged)
        return found

    def kv_list(self, partition_id: str) -> dict[str, Any]:
        return {partition_id: dict.fromkeys(self.stored)} if self.stored else {}

    def kv_clear(self, keys: list[str], partition_id: str) -> None:
        for key in keys:
            del self.stored[key]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    found = Queue()
    monkeypatch.setattr(queue_images, "tq", found)
    return found


def store(question: str, patches: int) -> dict[str, Any]:
    pixels = torch.arange(patches * 3.0).reshape(patches, 3)
    return asyncio.run(
        queue_images.store(question, {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 1, patches]])})
    )


def batch(rows: list[dict[str, Any]]) -> Any:
    return tu.get_tensordict({"number": torch.arange(len(rows)), "multi_modal_inputs": rows}, {})


@pytest.mark.parametrize("sizes", [(4, 4), (4, 6)])
def test_rows_get_the_images_of_their_question(sizes: tuple[int, int], queue: Queue) -> None:
    first, second = (store(name, size) for name, size in zip("ab", sizes, strict=True))
    data = batch([second, {}, first, first])
    rows = [tu.unwrap_non_tensor_data(row) for row in queue_images.fetch(data)["multi_modal_inputs"]]
    assert queue.fetched == [["b", "a"]]  # once each
    assert [len(row["pixel_values"]) if row else 0 for row in rows] == [sizes[1], 0, sizes[0], sizes[0]]
    assert rows[2]["pixel_values"].data_ptr() == rows[3]["pixel_values"].data_ptr()
    assert [int(row["image_grid_thw"][0, 2]) for row in rows if row] == [sizes[1], sizes[0], sizes[0]]
    assert "pixel_values" not in tu.unwrap_non_tensor_data(data["multi_modal_inputs"][0])  # the batch stays as it was


def test_rows_with_their_own_images_are_left_alone(queue: Queue) -> None:
    data = batch([{"pixel_values": torch.ones(2)}, {}])
    assert queue_images.fetch(data) is data and not queue.fetched


def test_a_question_without_images_stores_nothing(queue: Queue) -> None:
    assert asyncio.run(queue_images.store("a", {})) == {} and not queue.stored


def test_images_are_forgotten_after_a_step(queue: Queue) -> None:
    store("a", 2)
    queue_images.clear()
    queue_images.clear()
    assert not queue.stored
