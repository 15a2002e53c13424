"""verl's rollout loop with seeds and without repeated image processing (``rollout.agent.default_agent_loop``)."""

from __future__ import annotations

from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.utils.tokenizer.tokenizer import get_processor_token_id

from seg_zero.training.rollout.processed_images import process_once
from seg_zero.training.rollout.samples import sample_seed
from seg_zero.training.settings import EngineSettings, read


def one_placeholder_each(prompt_ids: list[int], placeholder: int) -> list[int]:
    """Token ids in which each run of image placeholders is one: vLLM writes as many as an image needs itself."""
    return [
        token
        for place, token in enumerate(prompt_ids)
        if token != placeholder or place == 0 or prompt_ids[place - 1] != placeholder
    ]


class _OnePlaceholderEach:
    """A server manager to which prompts go with one placeholder for each image.

    verl 0.9.1 does so on the server, for the image processor of the Qwen families alone; a prompt of another family
    reaches vLLM with all placeholders of an image, and is answered as if there were more of them.
    Can go when ``qwen2_5_vl_dedup_image_tokens`` asks for no class.
    """

    def __init__(self, manager: Any, placeholder: int) -> None:
        self._manager, self._placeholder = manager, placeholder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    async def generate(self, *args: Any, prompt_ids: list[int], **kwargs: Any) -> Any:
        shorter = one_placeholder_each(prompt_ids, self._placeholder)
        return await self._manager.generate(*args, prompt_ids=shorter, **kwargs)


class SeededAgentLoop(SingleTurnAgentLoop):
    """verl's single-turn rollout with a seed for each answer; each image is processed once.

    Without seeds, vLLM draws from one generator in the order of requests, so a resumed run would sample other answers
    than an uninterrupted one. A seed depends on the sample, not on the time of its request.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        processor: Any = self.processor  # one for all loops of a worker
        placeholder = get_processor_token_id(processor, "image")
        if placeholder is not None:
            self.server_manager: Any = _OnePlaceholderEach(self.server_manager, placeholder)
        if read(self.config, EngineSettings).processed_images_once:
            process_once(processor.image_processor)

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **kwargs: Any) -> AgentLoopOutput:
        if sampling_params.get("temperature"):
            numbers = (kwargs["global_steps"], kwargs["index"], kwargs["session_id"])
            seed = sample_seed(self.rollout_config.seed, *map(int, numbers))
            sampling_params = {**sampling_params, "seed": seed}
        return await super().run(sampling_params, priority=priority, **kwargs)
