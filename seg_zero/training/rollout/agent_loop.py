"""verl's rollout loop with seeds and without repeated image processing (``rollout.agent.default_agent_loop``)."""

from __future__ import annotations

import hashlib
from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

from seg_zero.training.rollout.processed_images import process_once
from seg_zero.training.settings import EngineSettings, read


def sample_seed(seed: int, step: int, row: int, sample: int) -> int:
    """The sampling seed of one answer, 0 <= seed < 2**63; the same in every run with the same four numbers."""
    name = f"{seed}/{step}/{row}/{sample}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") >> 1


class SeededAgentLoop(SingleTurnAgentLoop):
    """verl's single-turn rollout with a seed for each answer; each image is processed once.

    Without seeds, vLLM draws from one generator in the order of requests, so a resumed run would sample other answers
    than an uninterrupted one. A seed depends on the sample, not on the time of its request.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        processor: Any = self.processor  # one for all loops of a worker
        if read(self.config, EngineSettings).processed_images_once:
            process_once(processor.image_processor)

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **kwargs: Any) -> AgentLoopOutput:
        if sampling_params.get("temperature"):
            numbers = (kwargs["global_steps"], kwargs["index"], kwargs["session_id"])
            seed = sample_seed(self.rollout_config.seed, *map(int, numbers))
            sampling_params = {**sampling_params, "seed": seed}
        return await super().run(sampling_params, priority=priority, **kwargs)
