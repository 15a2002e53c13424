"""A whole conversation as a rollout (``rollout.agent.default_agent_loop=dialogue``): every round is one of its outputs.

The prompt of a round is the one that inference would make of the rounds before it, so a conversation is not one long
sequence but as many samples as it has rounds; verl's queue takes a list of outputs.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.utils.tokenizer.tokenizer import get_processor_token_id

from seg_zero.dialogue.memory import Instance
from seg_zero.dialogue.renderers import renderer_for
from seg_zero.policy.families import spec_of_family
from seg_zero.training.dialogue.prompts import history, round_info, round_prompt, round_truth, true_instance
from seg_zero.training.dialogue.scripts import Script
from seg_zero.training.rollout.agent_loop import SeededAgentLoop, one_placeholder_each
from seg_zero.training.rollout.reward import judge, read_response, round_question, round_scorers, terms_of
from seg_zero.training.rollout.round_scorer import RoundScore
from seg_zero.training.rollout.samples import sample_seed
from seg_zero.training.settings import DialogueSettings, read

SCRIPT = "script"  # key of extra_info
EACH_ROUND = "each_round"  # JSON list: the result of every round of a held-out conversation
_OWN, _INFO = "own_result", "reward_extra_info"


class PromptTooLong(ValueError):
    """The history of a round does not fit into ``data.max_prompt_length``."""


class RoundOutput(AgentLoopOutput):
    """One round. verl gives all outputs of a session the last one's reward; here each is stored with its own."""

    def as_dict(self) -> dict[str, Any]:
        output = super().as_dict()
        own = output["extra_fields"].pop(_OWN)
        output["rm_scores"][-1] = own["score"]
        output["extra_fields"][_INFO] = own
        return output


class DialogueAgentLoop(SeededAgentLoop):
    """Plays a script: question, answer, SAM2's mask, which re-enters the next round, whatever the answer is.

    An answer that cannot be read or has no object leaves an empty mask, which the next prompts tell of. A conversation
    ends before a round whose prompt is too long (``cut_short``).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._settings = read(self.config, DialogueSettings)
        self._spec = spec_of_family(**self.data_config.prompt)
        self._renderer = renderer_for(self._settings.references, self._settings.carry)
        self._terms = terms_of(self.config.reward.terms)

    async def run(  # type: ignore[override]  # verl's queue takes lists, its base class does not say so
        self, sampling_params: dict[str, Any], priority: int = 0, **row: Any
    ) -> list[AgentLoopOutput]:
        info = row["extra_info"]
        script: Script = info[SCRIPT]
        picture = await asyncio.to_thread(script.dialogue.picture)
        memory: list[Instance] = []
        outputs: list[AgentLoopOutput] = []
        results: list[dict[str, Any]] = []
        for number, one in enumerate(script.dialogue.rounds, start=1):
            instances = history(script, number, memory)
            prompt = await asyncio.to_thread(round_prompt, one, picture, instances, self._renderer, self._spec)
            messages = await asyncio.to_thread(prompt.messages, self._spec, info["use"])
            try:
                output = await self._answer(messages, sampling_params, priority, row, number)
            except PromptTooLong:
                if number == 1:
                    raise
                break
            about = round_info(script, number, prompt, self._spec, self._settings.references, bool(info["held_out"]))
            found, result = await self._judged(output, about, round_truth(one, self._spec), instances)
            answered = found.instance(number, one.asked.question, (picture.height, picture.width))
            memory.append(true_instance(one, number) if self._teaches(row, number) else answered)
            outputs.append(output)
            results.append({**result, "cut_short": 0.0})
        if len(outputs) < len(script.dialogue.rounds):
            results[-1]["cut_short"] = 1.0
        return _with_results(outputs, results, bool(info["validating"]))

    async def ct_build_initial_tokens(
        self,
        messages: list[dict[str, Any]],
        tools: Any = None,
        images: Any = None,
        videos: Any = None,
        audios: Any = None,
        mm_inputs_out: Any = None,
    ) -> list[int]:
        """verl's, which a prompt that is too long leaves by an error of its own, and with its images counted."""
        build = partial(
            self.continuous_token_builder.build_initial_tokens,
            messages,
            tools=tools,
            images=images,
            videos=videos,
            audios=audios,
            mm_inputs_out=mm_inputs_out,
        )
        ids: list[int] = await asyncio.to_thread(build)
        if len(ids) > self.prompt_length:
            raise PromptTooLong(
                f"a prompt of {len(ids)} tokens is longer than data.max_prompt_length={self.prompt_length}"
            )
        check_placeholders(ids, get_processor_token_id(self.processor, "image"), len(images or ()))
        return ids

    async def _answer(
        self,
        messages: Sequence[dict[str, Any]],
        sampling: dict[str, Any],
        priority: int,
        row: Mapping[str, Any],
        number: int,
    ) -> RoundOutput:
        """The policy's answer to one prompt, drawn with a seed of its own."""
        if sampling.get("temperature"):
            numbers = (row["global_steps"], row["index"], row["session_id"], number)
            sampling = {**sampling, "seed": sample_seed(self.rollout_config.seed, *map(int, numbers))}
        found = await SingleTurnAgentLoop.run(self, sampling, priority=priority, raw_prompt=list(messages))
        return RoundOutput(**{name: getattr(found, name) for name in found.model_fields_set})

    async def _judged(
        self, output: AgentLoopOutput, info: Mapping[str, Any], truth: str, instances: tuple[Instance, ...]
    ) -> tuple[RoundScore, dict[str, Any]]:
        """SAM2's masks of an answer, and its reward by term."""
        tokenizer: Any = self.tokenizer
        text = tokenizer.decode(output.response_ids, skip_special_tokens=True)
        response = read_response(text, truth, info, self._terms)
        used = instances if info["way"] == "mask" else ()
        found = await round_scorers(self.config.reward.mask_scorer).score(round_question(response, info, used))
        name = str(info["source"])
        return found, await asyncio.to_thread(judge, response, info, self._terms, found.score, name)

    def _teaches(self, row: Mapping[str, Any], number: int) -> bool:
        """Whether the true mask of a round re-enters in place of the answered one; the same in all of a group."""
        if row["extra_info"]["validating"]:
            return False
        numbers = (row["global_steps"], row["index"], -1, number)
        draw = random.Random(sample_seed(self.rollout_config.seed, *map(int, numbers))).random()
        return draw < self._settings.teacher_history


def check_placeholders(ids: Sequence[int], placeholder: int | None, images: int) -> None:
    """Raises ValueError if a prompt has not as many image placeholders, each a run of its tokens, as images."""
    runs = 0 if placeholder is None else one_placeholder_each(list(ids), placeholder).count(placeholder)
    if runs != images:
        raise ValueError(f"the prompt has {runs} image placeholders for {images} images")


def _with_results(
    outputs: list[AgentLoopOutput], results: Sequence[dict[str, Any]], validating: bool
) -> list[AgentLoopOutput]:
    """Outputs with their results. verl's validation looks at the last output alone, which then stands for all."""
    for output, result in zip(outputs, results, strict=True):
        output.extra_fields[_OWN] = result
        output.num_turns = 2
    last = outputs[-1]
    if validating:
        numbers = [name for name, value in results[-1].items() if isinstance(value, float)]
        means = {name: float(np.mean([result[name] for result in results])) for name in numbers}
        last.extra_fields[_OWN] = {**means, EACH_ROUND: json.dumps(list(results))}
    last.reward_score = last.extra_fields[_OWN]["score"]  # set, so that verl asks no reward worker
    last.extra_fields[_INFO] = last.extra_fields[_OWN]
    return outputs
