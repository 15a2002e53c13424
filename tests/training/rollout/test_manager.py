"""The trainer waits for answers; it does not look for them."""

from __future__ import annotations

from typing import Any

import pytest

from seg_zero.training.rollout import manager
from seg_zero.training.rollout.manager import RolloutManager


class Ray:
    """ray.wait and ray.get over references that are numbers: even ones are ready."""

    def __init__(self) -> None:
        self.died = False

    def wait(self, running: list[int], num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        assert num_returns == len(running) and timeout == 3.0
        return [n for n in running if n % 2 == 0], [n for n in running if n % 2]

    def get(self, ended: list[int]) -> None:
        if self.died:
            raise RuntimeError("the worker died")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    found = Ray()
    monkeypatch.setattr(manager, "ray", found)
    return found


def waiting_for(running: list[int]) -> RolloutManager:
    made: Any = object.__new__(RolloutManager)
    made._running = running
    return made


def test_waiting_goes_on_with_what_has_not_ended(ray: Ray) -> None:
    found = waiting_for([2, 3, 4])
    assert found.wait(3.0) and found._running == [3]
    assert waiting_for([2]).wait(3.0) and not waiting_for([]).wait(3.0)


def test_a_worker_that_died_ends_the_run(ray: Ray) -> None:
    ray.died = True
    with pytest.raises(RuntimeError, match="the worker died"):
        waiting_for([2]).wait(3.0)
