"""verl's rollout manager (``rollout.agent.agent_loop_manager_class``), with workers of ours for group rollouts."""

from __future__ import annotations

from typing import Any

import ray
from tensordict import TensorDict
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ
from verl.workers.rollout.replica import RolloutReplicaRegistry

from seg_zero.training.settings import EngineSettings, read


def _group_replica() -> Any:
    from seg_zero.training.rollout.group_server import GroupReplica

    return GroupReplica


def register_group_server() -> None:
    """Let verl start :class:`~seg_zero.training.rollout.group_server.GroupServer` for vLLM; before it starts any."""
    RolloutReplicaRegistry.register("vllm", _group_replica)


class RolloutManager(AgentLoopManagerTQ):
    """Adds :meth:`wait`, which returns when answers are there; verl 0.9.1 looks into the queue again and again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._running: list[Any] = []
        self._groups = read(self.config, EngineSettings).group_rollouts
        if self._groups:
            from seg_zero.training.rollout.group_worker import GroupWorker

            self.agent_loop_workers_class = ray.remote(GroupWorker)

    def generate_sequences(self, prompts: TensorDict) -> None:
        super().generate_sequences(prompts)
        if self._groups:
            workers: list[Any] = list(self.agent_loop_workers)
            self._running = [worker.finish.remote() for worker in workers]

    def wait(self, seconds: float) -> bool:
        """Wait until all questions have ended, but no longer than this; False at once if there is nothing to wait for.

        Raises what ended a worker, if one died.
        """
        if not self._running:
            return False
        ended, self._running = ray.wait(self._running, num_returns=len(self._running), timeout=seconds)
        ray.get(ended)
        return True
