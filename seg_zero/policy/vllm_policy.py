"""A policy run by vLLM."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from seg_zero.errors import InputError
from seg_zero.policy.base import GREEDY, MAX_NEW_TOKENS, Policy, Reply, Request, Sampling, take_waiting, too_long
from seg_zero.policy.model_files import default_spec, folder_of, resolve_model
from seg_zero.policy.processors import load_processor, pass_images_on
from seg_zero.policy.weights import check_weights
from seg_zero.prompting import PromptSpec, build_messages, resize_for_policy

QUESTION_TOKENS = 1024  # room that vLLM keeps for instructions and question


class VllmPolicy(Policy):
    """A policy run by vLLM; tensor parallel over ``tensor_parallel_size`` GPUs (or CPU processes)."""

    in_flight = 128

    def __init__(self, engine: Any, processor: Any, spec: PromptSpec, max_new_tokens: int) -> None:
        self.engine, self.processor, self.spec, self.max_new_tokens = engine, processor, spec, max_new_tokens
        self._asked = 0

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path | None = None,
        *,
        spec: PromptSpec | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
        tensor_parallel_size: int = 1,
        gpu_memory_utilization: float = 0.6,
    ) -> VllmPolicy:
        """Load the policy into a vLLM engine: bfloat16 on GPUs, float32 on CPU."""
        name = resolve_model(path_or_id)
        spec = spec or default_spec(name)
        processor = load_processor(name)
        limits = pass_images_on(processor, spec, name)
        if limits and "min_pixels" not in processor.image_processor.valid_kwargs.__annotations__:
            raise InputError(
                f"the processor of {name} resizes images of {spec.image_size} x {spec.image_size} pixels, and vLLM "
                "knows no setting for it; raise longest_edge in the processor's files, or use the engine transformers"
            )
        folder = folder_of(name)
        if folder is not None:
            check_weights(folder)
        import torch

        settings: dict[str, Any] = {"gpu_memory_utilization": gpu_memory_utilization, "dtype": "bfloat16"}
        if not torch.cuda.is_available():
            for key, value in {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCHDYNAMO_DISABLE": "1"}.items():
                os.environ.setdefault(key, value)
            if tensor_parallel_size == 1:
                # One process instead of three: loading takes a third of the processor time.
                os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            settings = {"kv_cache_memory_bytes": 256 << 20, "dtype": "float32", "enforce_eager": True}
            # What prompts share is kept in whole blocks; with the 128 tokens of vLLM on CPU that is seldom anything.
            settings["block_size"] = 32
            # vLLM 0.24.0 fails on CPU when it cuts the prompt of an answer that is sampled with a seed.
            settings["enable_chunked_prefill"] = False
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        from vllm import LLM

        if limits:
            settings["mm_processor_kwargs"] = limits
        engine = LLM(
            model=name,
            tensor_parallel_size=tensor_parallel_size,
            max_model_len=spec.image_tokens + QUESTION_TOKENS + max_new_tokens,
            limit_mm_per_prompt={"image": 1, "video": 0},
            disable_log_stats=True,
            **settings,
        )
        return cls(engine, processor, spec, max_new_tokens)

    def stream(self, requests: Iterable[Request | None], sampling: Sampling = GREEDY) -> Iterator[Reply]:
        """Replies as they are finished; the engine always has up to ``in_flight`` requests to batch."""
        source, waiting, open_ended = iter(requests), dict[str, int](), True
        try:
            while open_ended or waiting:
                taken, open_ended = take_waiting(source, self.in_flight - len(waiting))
                for request in taken:
                    problem = self._enqueue(request, sampling, waiting)
                    if problem is not None:
                        yield Reply(request.key, (), 0, False, problem)
                for output in self.engine.llm_engine.step() if waiting else ():
                    if output.finished:
                        written = sorted(output.outputs, key=lambda one: one.index)
                        yield Reply(
                            waiting.pop(output.request_id),
                            tuple(one.text for one in written),
                            sum(len(one.token_ids) for one in written),
                            any(one.finish_reason == "length" for one in written),
                        )
        finally:
            if waiting:  # the caller wants no more
                self.engine.llm_engine.abort_request(list(waiting))

    def _enqueue(self, request: Request, sampling: Sampling, waiting: dict[str, int]) -> str | None:
        """Hand a request to the engine; returns why it cannot be asked, or None."""
        if request.pictures:
            return "vLLM was loaded for one picture a question; choose another rendering of references, or transformers"
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        prompt = self.processor.apply_chat_template(
            build_messages(request.question, self.spec, context=request.context),
            tokenize=False,
            add_generation_prompt=True,
        )
        asked_words = request.question + request.context
        words, asked = (len(self.processor.tokenizer(text)["input_ids"]) for text in (prompt, asked_words))
        problem = too_long(words, QUESTION_TOKENS, request.question, asked, self.spec)
        if problem is not None:
            return problem
        picture = resize_for_policy(request.image, self.spec)
        params = SamplingParams(
            n=sampling.answers,
            temperature=sampling.temperature,
            seed=sampling.seed_of(request.key) if sampling.temperature else None,
            max_tokens=self.max_new_tokens,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._asked += 1
        name = str(self._asked)
        parts = {"prompt": prompt, "multi_modal_data": {"image": picture}}
        self.engine.llm_engine.add_request(name, parts, params)
        waiting[name] = request.key
        return None
