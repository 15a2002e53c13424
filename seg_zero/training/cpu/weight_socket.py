"""A socket of its own for each run, through which weights go to vLLM.

verl 0.9.1 names it by Ray's job id, which is the same for the first job of every cluster: of two runs on one machine,
each with a Ray of its own, one may get the other's weights, or wait for ever. Can go when verl's name differs between
clusters.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from seg_zero.training.environment import RUN


def of_this_run(address: str, environment: Mapping[str, str] = os.environ) -> str:
    """verl's address of the socket, ``ipc://PATH.sock``, with the identifier of the run in it."""
    run = environment.get(RUN)
    return f"{address.removesuffix('.sock')}-{run}.sock" if run else address


def send_through_it() -> None:
    """Let training workers send weights there; :mod:`seg_zero.training.cpu.vllm_worker` receives them."""
    from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

    build = ServerAdapter.__init__

    def named(self: ServerAdapter, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        self.zmq_handle = of_this_run(self.zmq_handle)

    ServerAdapter.__init__ = named  # type: ignore[method-assign]
