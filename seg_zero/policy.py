"""Policies: (images, questions) to texts, with transformers or with vLLM."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from seg_zero.devices import choose_device, choose_dtype
from seg_zero.errors import InputError
from seg_zero.model_files import check_processor, default_spec, resolve_model
from seg_zero.prompting import PromptSpec, build_messages, resize_for_policy

if TYPE_CHECKING:
    import torch

MAX_NEW_TOKENS = 1024
QUESTION_TOKENS = 1024  # room that vLLM keeps for instructions and question


@dataclass(frozen=True)
class Request:
    """One question about one image (RGB, of any size); ``key`` is the caller's."""

    key: int
    image: Image.Image
    question: str


@dataclass(frozen=True)
class Reply:
    """What the policy wrote to one request, or the problem that kept it from being asked.

    tokens: how many it wrote, all texts together; truncated: whether a text ended at the limit.
    """

    key: int
    texts: tuple[str, ...]
    tokens: int
    truncated: bool
    problem: str | None = None


@dataclass(frozen=True)
class Sampling:
    """How many answers to each request, and how: greedily at temperature 0, else by chance.

    The chance depends on ``seed`` and the request's key alone, not on what else is asked.
    """

    answers: int = 1
    temperature: float = 0.0
    seed: int = 0

    def seed_of(self, key: int) -> int:
        return zlib.crc32(f"{self.seed} {key}".encode())


GREEDY = Sampling()


class Policy(Protocol):
    """Anything that answers questions about images in text.

    in_flight: how many requests it works on at a time.
    """

    spec: PromptSpec
    in_flight: int

    def stream(self, requests: Iterable[Request | None], sampling: Sampling = GREEDY) -> Iterator[Reply]:
        """A reply to each request, in any order, while further requests are taken as there is room.

        None among the requests says that there is none at the moment: those taken are worked on before more are
        asked for. Whoever feeds a queue in, blocks while all are answered, and gives None otherwise.
        """

    def generate(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        """One text per (image, question), greedy. Raises InputError for a question that cannot be asked."""
        requests = (Request(i, *pair) for i, pair in enumerate(zip(images, questions, strict=True)))
        replies = {reply.key: reply for reply in self.stream(requests)}
        for reply in replies.values():
            if reply.problem is not None:
                raise InputError(reply.problem)
        return [replies[i].texts[0] for i in range(len(replies))]

    def stream_text(self, image: Image.Image, question: str) -> Iterator[str]:
        """The text of :meth:`generate` in pieces, as they are written; in one piece if a policy does not say more.

        A caller that stops reading stops the writing.
        """
        yield from self.generate([image], [question])


def take_waiting(source: Iterator[Request | None], room: int) -> tuple[list[Request], bool]:
    """Up to ``room`` requests that are there at the moment, and whether there may be more."""
    taken = list[Request]()
    while len(taken) < room:
        try:
            request = next(source)
        except StopIteration:
            return taken, False
        if request is None:
            break
        taken.append(request)
    return taken, True


def _too_long(tokens: int, limit: int, question: str) -> str | None:
    if tokens <= limit:
        return None
    return (
        f"the prompt has {tokens} tokens, more than the {limit} that the model leaves room for "
        f"(question {question[:60]!r}...); shorten the question"
    )


class TransformersPolicy(Policy):
    """A policy run by transformers' generate; CPU or GPU, no flash-attention needed."""

    def __init__(self, model: Any, processor: Any, spec: PromptSpec, max_new_tokens: int, batch_size: int) -> None:
        self.model, self.processor, self.spec = model, processor, spec
        self.max_new_tokens, self.in_flight = max_new_tokens, batch_size

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path | None = None,
        *,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        spec: PromptSpec | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
        batch_size: int = 8,
    ) -> TransformersPolicy:
        """Load a policy of any family; device and dtype as :mod:`seg_zero.devices` chooses them."""
        name = resolve_model(path_or_id)
        device = choose_device(device)
        kind = choose_dtype(dtype, device)
        from safetensors import SafetensorError
        from transformers import AutoModelForImageTextToText, AutoProcessor

        try:
            processor = AutoProcessor.from_pretrained(name)
            model: Any = AutoModelForImageTextToText.from_pretrained(name, dtype=kind, attn_implementation="sdpa")
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            reason = str(error).strip().split("\n")[0]
            raise InputError(f"policy {name} cannot be loaded ({reason}); check the folder or hub id") from error
        processor.tokenizer.padding_side = "left"
        model.requires_grad_(False).eval()
        spec = spec or default_spec(name)
        check_processor(processor, spec, name)
        return cls(model.to(device), processor, spec, max_new_tokens, batch_size)

    def stream(self, requests: Iterable[Request | None], sampling: Sampling = GREEDY) -> Iterator[Reply]:
        """Replies in the order of the requests, ``in_flight`` at a time or up to a None.

        Sampled answers are made one request at a time: in a batch their chance would depend on the others.
        """
        size = 1 if sampling.temperature else self.in_flight
        batch = list[Request]()
        for request in requests:
            if request is not None:
                batch.append(request)
            if batch and (request is None or len(batch) == size):
                yield from self._reply(batch, sampling)
                batch = []
        if batch:
            yield from self._reply(batch, sampling)

    def _reply(self, batch: Sequence[Request], sampling: Sampling) -> Iterator[Reply]:
        import torch

        askable = []
        for request in batch:
            problem = self._problem(request.question)
            if problem is None:
                askable.append(request)
            else:
                yield Reply(request.key, (), 0, False, problem)
        if not askable:
            return
        inputs = self._inputs([(request.image, request.question) for request in askable])
        if sampling.temperature:
            inputs |= {"do_sample": True, "temperature": sampling.temperature, "top_p": 1.0, "top_k": 0}
            torch.manual_seed(sampling.seed_of(askable[0].key))
        width = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            output = self.model.generate(**inputs, num_return_sequences=sampling.answers)[:, width:]
        texts = [str(text) for text in self.processor.batch_decode(output, skip_special_tokens=True)]
        lengths = [_written(ids, self.processor.tokenizer) for ids in output.tolist()]
        for i, request in enumerate(askable):
            own = slice(i * sampling.answers, (i + 1) * sampling.answers)
            whole = all(ended for _, ended in lengths[own])
            yield Reply(request.key, tuple(texts[own]), sum(count for count, _ in lengths[own]), not whole)

    def stream_text(self, image: Image.Image, question: str) -> Iterator[str]:
        """The text of :meth:`generate` word by word; generation runs in a thread while it is read.

        Raises InputError for a question that cannot be asked, and whatever ends the generation.
        """
        problem = self._problem(question)
        if problem is not None:
            raise InputError(problem)
        import torch
        from transformers import StoppingCriteriaList, TextIteratorStreamer

        inputs = self._inputs([(image, question)])
        streamer = TextIteratorStreamer(self.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        unread, failures = threading.Event(), list[BaseException]()

        def enough(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            return torch.full((ids.shape[0],), unread.is_set(), device=ids.device)

        def write() -> None:
            try:
                with torch.inference_mode():
                    self.model.generate(**inputs, streamer=streamer, stopping_criteria=StoppingCriteriaList([enough]))
            except BaseException as error:  # it is raised again where the text is read
                failures.append(error)
                streamer.text_queue.put(streamer.stop_signal)

        thread = threading.Thread(target=write, name="policy", daemon=True)
        thread.start()
        try:
            yield from (piece for piece in streamer if piece)
            if failures:
                raise failures[0]
        finally:
            unread.set()
            thread.join()

    @property
    def _limit(self) -> int:
        """Tokens of prompt and text together."""
        return self.model.config.get_text_config().max_position_embeddings

    def _prompt(self, question: str) -> str:
        return self.processor.apply_chat_template(
            build_messages(question, self.spec), tokenize=False, add_generation_prompt=True
        )

    def _problem(self, question: str) -> str | None:
        tokens = len(self.processor.tokenizer(self._prompt(question))["input_ids"]) + self.spec.image_tokens
        return _too_long(tokens, self._limit - 64, question)

    def _inputs(self, pairs: Sequence[tuple[Image.Image, str]]) -> dict[str, Any]:
        """What ``generate`` takes to answer these images and questions greedily."""
        inputs = self.processor(
            text=[self._prompt(question) for _, question in pairs],
            images=[resize_for_policy(image, self.spec) for image, _ in pairs],
            padding=True,
            return_tensors="pt",
        ).to(self.model.device)
        # Settings of a checkpoint's generation config must not leak into decoding; Qwen2.5-VL's has a penalty of 1.05.
        greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "repetition_penalty": 1.0}
        room = min(self.max_new_tokens, self._limit - inputs["input_ids"].shape[1])
        return {**inputs, **greedy, "max_new_tokens": room}


def _written(ids: Sequence[int], tokenizer: Any) -> tuple[int, bool]:
    """How many tokens were written before padding, and whether the text was ended by the policy itself."""
    ends = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    for count, token in enumerate(ids, start=1):
        if token in ends:
            return count, True
    return len(ids), False


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
        import torch

        settings: dict[str, Any] = {"gpu_memory_utilization": gpu_memory_utilization, "dtype": "bfloat16"}
        if not torch.cuda.is_available():
            for key, value in {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCHDYNAMO_DISABLE": "1"}.items():
                os.environ.setdefault(key, value)
            settings = {"kv_cache_memory_bytes": 256 << 20, "dtype": "float32", "enforce_eager": True}
            # vLLM 0.24.0 fails on CPU when it cuts the prompt of an answer that is sampled with a seed.
            settings["enable_chunked_prefill"] = False
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        from transformers import AutoProcessor
        from vllm import LLM

        processor = AutoProcessor.from_pretrained(name)
        check_processor(processor, spec, name)
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
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        prompt = self.processor.apply_chat_template(
            build_messages(request.question, self.spec), tokenize=False, add_generation_prompt=True
        )
        problem = _too_long(len(self.processor.tokenizer(prompt)["input_ids"]), QUESTION_TOKENS, request.question)
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
