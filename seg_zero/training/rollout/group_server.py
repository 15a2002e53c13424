"""verl's vLLM server with one request for all answers to a question. Imports vLLM."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import ray
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica
from vllm import SamplingParams, TokensPrompt
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind

from seg_zero.training.rollout.samples import Sampled


class GroupServer(vLLMHttpServer):
    """Adds :meth:`generate_group`; verl 0.9.1 sends a request for each answer, and reads every token as it comes.

    On CPU without tensor parallelism, vLLM's engine also runs the model in its own process (with
    ``VLLM_ENABLE_V1_MULTIPROCESSING=0``, without which vLLM starts a process nevertheless).
    """

    def _preprocess_engine_kwargs(self, engine_kwargs: dict[str, Any]) -> None:
        super()._preprocess_engine_kwargs(engine_kwargs)
        if current_platform.is_cpu() and self.config.tensor_model_parallel_size == 1:
            engine_kwargs.setdefault("distributed_executor_backend", "uni")

    async def generate_group(
        self,
        prompt_ids: list[int],
        sampling: dict[str, Any],
        count: int,
        images: list[Any] | None,
        processor_settings: dict[str, Any],
    ) -> tuple[list[Sampled], int | None]:
        """``count`` answers to one prompt, and the training step whose weights gave them.

        prompt_ids: with one placeholder for each image. sampling: arguments of vLLM's SamplingParams; with a ``seed``
        answer i is drawn with seed + i. Raises RuntimeError if vLLM gives up the request, ValueError if the prompt
        leaves no room for an answer.
        """
        room = self.config.max_model_len - len(prompt_ids)
        if room < 1:
            raise ValueError(f"a prompt of {len(prompt_ids)} tokens fills max_model_len={self.config.max_model_len}")
        greedy = not sampling.get("temperature")  # all answers are equal then, and vLLM refuses to repeat them
        params = SamplingParams(
            **{"repetition_penalty": 1.0, "ignore_eos": self.config.ignore_eos, **sampling},
            n=1 if greedy else count,
            max_tokens=min(self.config.response_length, room),
            output_kind=RequestOutputKind.FINAL_ONLY,
            detokenize=False,
        )
        prompt = TokensPrompt(prompt_token_ids=prompt_ids)
        if images:
            prompt["multi_modal_data"] = {"image": images}
        if processor_settings:
            prompt["mm_processor_kwargs"] = processor_settings
        request = uuid4().hex
        if await self._park_until_admitted(request) is not None:
            raise RuntimeError("vLLM's server was taken out of service before the request began")
        admitted, final = False, None
        try:
            async for output in self.engine.generate(prompt=prompt, sampling_params=params, request_id=request):
                if not admitted:
                    admitted = True
                    self._admitting -= 1
                final = output
        finally:
            if not admitted:
                self._admitting -= 1
        answers = sorted(final.outputs, key=lambda one: one.index) if final is not None else []
        if len(answers) != params.n or any(one.finish_reason == "abort" for one in answers):
            raise RuntimeError(f"vLLM gave up a request: {len(answers)} of {params.n} answers")
        found = [Sampled(list(one.token_ids), _log_probs(one)) for one in answers]
        return found * count if greedy else found, self.global_steps


def _log_probs(output: Any) -> list[float] | None:
    if output.logprobs is None:
        return None
    return [at[token].logprob for token, at in zip(output.token_ids, output.logprobs, strict=True)]


class GroupReplica(vLLMReplica):
    """verl's replica with :class:`GroupServer`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(GroupServer)
