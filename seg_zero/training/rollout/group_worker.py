"""verl's rollout worker, a question at a time: one request, one reward call and one write for all its answers."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from tensordict import TensorDict
from verl import DataProto
from verl.experimental.agent_loop import AgentLoopWorker
from verl.experimental.agent_loop.agent_loop import DictConfigWrap
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ, apply_greedy_sampling_params
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from verl.utils.tokenizer.tokenizer import get_processor_token_id

from seg_zero.training import queue_images
from seg_zero.training.rollout.agent_loop import SeededAgentLoop, one_placeholder_each
from seg_zero.training.rollout.samples import Sampled, group_seed

log = logging.getLogger(__name__)
_FOR_REWARD = ("data_source", "reward_model", "extra_info")  # what verl's reward managers read of a row
_NOT_FEATURES = ("input_ids", "attention_mask", "mm_token_type_ids")


class GroupWorker(AgentLoopWorker):
    """Puts into the queue what verl 0.9.1's ``AgentLoopWorkerTQ`` puts there, with two differences.

    Seeds are consecutive within a group, and pixels are stored once (:mod:`queue_images`; those of held-out rows
    not at all, which nobody reads). A group whose request or reward fails is marked as failed and has no samples.
    """

    # Not inherited: Ray's decoration of verl's class breaks its super().
    generate_sequences = AgentLoopWorkerTQ.__ray_actor_class__.generate_sequences  # type: ignore[attr-defined]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tq.init()
        self.background_tasks: set[asyncio.Task[None]] = set()
        self._prompts: SeededAgentLoop | None = None

    async def finish(self) -> None:
        """Returns when every question that was begun has ended."""
        while self.background_tasks:
            await asyncio.wait(list(self.background_tasks))

    async def _run_prompt(
        self, prompt: dict[str, Any], sampling_params: dict[str, Any], trajectory: dict[str, Any], trace: bool = False
    ) -> None:
        question, partition = prompt["uid"], "val" if trajectory["validate"] else "train"
        try:
            await self._run_group(prompt, dict(sampling_params), partition)
            status = "finished"
        except Exception:
            log.exception("no answers to question %s (row %s)", question, prompt.get("index"))
            status = "failure"
        await tq.async_kv_put(key=question, partition_id=partition, tag={"status": status})

    async def _run_group(self, prompt: dict[str, Any], sampling: dict[str, Any], partition: str) -> None:
        config, training = self.rollout_config, partition == "train"
        count = int(prompt.pop("__rollout_n__", config.n if training else config.val_kwargs.n))
        prompt.pop("agent_name", None)
        if not prompt.pop("__do_sample__", True) and training:
            apply_greedy_sampling_params(sampling)
        sampling["logprobs"] = 0 if sampling.get("logprobs") else None
        if sampling.get("temperature"):
            sampling["seed"] = group_seed(config.seed, int(prompt["global_steps"]), int(prompt["index"]))
        messages = list(prompt.pop("raw_prompt"))
        ids, images, features = await self._prompt_of(messages)
        answers, step = await self._sample(prompt["uid"], ids, images, sampling, count)
        scores = await self._scores(prompt, ids, answers)
        held = await queue_images.store(prompt["uid"], features) if training else {}
        fields = self._fields(prompt, ids, answers, scores, step, features, held)
        steps = {"global_steps": prompt["global_steps"], "min_global_steps": step, "max_global_steps": step}
        await tq.async_kv_batch_put(
            keys=[f"{prompt['uid']}_{number}_0" for number in range(count)],
            fields=list_of_dict_to_tensordict(fields),
            tags=[
                {
                    "status": "success",
                    "prompt_len": len(ids),
                    "response_len": len(answer.tokens),
                    "seq_len": len(ids) + len(answer.tokens),
                    **steps,
                }
                for answer in answers
            ],
            partition_id=partition,
        )

    async def _prompt_of(
        self, messages: list[dict[str, Any]]
    ) -> tuple[list[int], list[Any] | None, dict[str, torch.Tensor]]:
        """Token ids of a prompt, its images, and what the image processor made of them."""
        if self._prompts is None:
            self._prompts = SeededAgentLoop(
                trainer_config=DictConfigWrap(self.config),
                server_manager=self.llm_client,
                tokenizer=self.tokenizer,
                processor=self.processor,
                dataset_cls=self.dataset_cls,
                data_config=DictConfigWrap(self.config.data),
                hf_model_type=self.hf_model_type,
            )
        images: Any = (await self._prompts.process_multi_modal_info(messages)).get("images")
        self._prompts._assert_mm_supported(bool(images))
        seen: dict[str, Any] = {}
        ids = await self._prompts.ct_build_initial_tokens(messages, images=images, mm_inputs_out=seen)
        features = {name: torch.as_tensor(value) for name, value in seen.items() if name not in _NOT_FEATURES}
        return ids, images, features

    async def _sample(
        self, question: str, ids: list[int], images: list[Any] | None, sampling: dict[str, Any], count: int
    ) -> tuple[list[Sampled], int | None]:
        placeholder = get_processor_token_id(self.processor, "image")
        short = ids if placeholder is None else one_placeholder_each(ids, placeholder)
        server_id, server = await self.llm_client._acquire_server(question, prompt_ids=ids, sampling_params=sampling)
        try:
            settings = self._get_mm_processor_kwargs()
            found: tuple[list[Sampled], int | None] = await server.generate_group.remote(
                short, sampling, count, images, settings
            )
        finally:
            self.llm_client._release_server(server_id, request_id=question)
        if not all(answer.tokens for answer in found[0]):
            raise RuntimeError("vLLM returned an answer without a token")
        return found

    async def _scores(
        self, prompt: Mapping[str, Any], ids: list[int], answers: Sequence[Sampled]
    ) -> list[dict[str, Any]]:
        """What verl's reward manager makes of each answer, in one call."""
        count, longest = len(answers), max(len(answer.tokens) for answer in answers)
        responses = torch.zeros(count, longest, dtype=torch.int64)
        mask = torch.zeros(count, len(ids) + longest, dtype=torch.int64)
        for row, answer in enumerate(answers):
            responses[row, : len(answer.tokens)] = torch.tensor(answer.tokens)
            mask[row, : len(ids) + len(answer.tokens)] = 1
        tensors = {"prompts": torch.tensor(ids).repeat(count, 1), "responses": responses, "attention_mask": mask}
        rows = {name: np.array([prompt[name]] * count, dtype=object) for name in _FOR_REWARD if name in prompt}
        rows["__num_turns__"] = np.full(count, 2)
        worker = random.choice(self.reward_loop_worker_handles)  # they share nothing but the load
        found: list[dict[str, Any]] = await worker.compute_score_batch.remote(
            DataProto(batch=TensorDict(tensors, batch_size=count), non_tensor_batch=rows)
        )
        return found

    def _fields(
        self,
        row: Mapping[str, Any],
        ids: list[int],
        answers: Sequence[Sampled],
        scores: Sequence[Mapping[str, Any]],
        step: int | None,
        features: dict[str, torch.Tensor],
        held: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """One dictionary for each answer, as verl's trainer wants them."""
        prompt = torch.tensor(ids)
        longest = max(len(answer.tokens) for answer in answers)
        # Answers show nothing, so their positions depend on their length alone.
        filled = torch.cat([prompt, prompt[-1:].expand(longest)])[None]
        inputs = {**features, "mm_token_type_ids": True}  # verl asks whether it is there
        positions = self._compute_position_ids(filled, torch.ones_like(filled), inputs)[0]
        steps = {"global_steps": step, "min_global_steps": step, "max_global_steps": step}
        found = []
        for number, (answer, score) in enumerate(zip(answers, scores, strict=True)):
            tokens, length = torch.tensor(answer.tokens), len(answer.tokens)
            rewards = torch.zeros(length)
            rewards[-1] = score["reward_score"]
            mask = torch.ones(length, dtype=torch.int64)
            log_probs = {} if answer.log_probs is None else {"rollout_log_probs": torch.tensor(answer.log_probs)}
            info = {"reward_extra_info": score["reward_extra_info"], "turn_scores": [], "tool_rewards": [], **steps}
            found.append(
                {
                    **row,
                    **log_probs,
                    "session_id": number,
                    "prompts": prompt,
                    "responses": tokens,
                    "response_mask": mask,
                    "loss_mask": mask,
                    "rm_scores": rewards,
                    "input_ids": torch.cat([prompt, tokens]),
                    "position_ids": positions[..., : len(ids) + length],
                    "multi_modal_inputs": held,
                    "num_turns": 2,
                    "metrics": {"generate_sequences": 0.0, "tool_calls": 0.0, "compute_score": 0.0},
                    "extra_fields": info,
                }
            )
        return found
