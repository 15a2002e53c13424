"""What our rollout loop sends to vLLM."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from seg_zero.training.rollout.agent_loop import _OnePlaceholderEach, one_placeholder_each


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ([1, 9, 9, 9, 2], [1, 9, 2]),
        ([9, 9, 1, 9, 9], [9, 1, 9]),
        ([1, 9, 2], [1, 9, 2]),
        ([1, 1, 2, 2], [1, 1, 2, 2]),
        ([], []),
    ],
)
def test_each_image_has_one_placeholder(sent: list[int], arrives: list[int]) -> None:
    assert one_placeholder_each(sent, placeholder=9) == arrives


def test_only_the_prompt_of_a_request_is_changed() -> None:
    class Manager:
        servers = 3

        async def generate(self, request_id: str, *, prompt_ids: list[int], image_data: Any = None) -> tuple[Any, ...]:
            return request_id, prompt_ids, image_data

    manager = _OnePlaceholderEach(Manager(), placeholder=9)
    prompt = [1, 9, 9, 2]
    assert asyncio.run(manager.generate("a", prompt_ids=prompt, image_data="b")) == ("a", [1, 9, 2], "b")
    assert prompt == [1, 9, 9, 2] and manager.servers == 3
