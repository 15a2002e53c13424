"""A policy run by transformers."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from seg_zero.devices import choose_device, choose_dtype
from seg_zero.errors import InputError
from seg_zero.hub import check_shapes, load_model
from seg_zero.policy.base import GREEDY, MAX_NEW_TOKENS, Policy, Reply, Request, Sampling, pictures_of, too_long
from seg_zero.policy.model_files import default_spec, resolve_model
from seg_zero.policy.prefix import KeptPrompt
from seg_zero.policy.processors import load_processor, pass_images_on
from seg_zero.policy.weights import check_loaded
from seg_zero.prompting import PromptSpec, build_messages

if TYPE_CHECKING:
    import torch


class TransformersPolicy(Policy):
    """A policy run by transformers' generate; CPU or GPU, no flash-attention needed."""

    def __init__(self, model: Any, processor: Any, spec: PromptSpec, max_new_tokens: int, batch_size: int) -> None:
        self.model, self.processor, self.spec = model, processor, spec
        self.max_new_tokens, self.in_flight = max_new_tokens, batch_size
        self._kept = KeptPrompt(model)

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
        from transformers import AutoModelForImageTextToText

        processor, spec = load_processor(name), spec or default_spec(name)
        pass_images_on(processor, spec, name)
        try:
            model, loaded = load_model(AutoModelForImageTextToText, name, dtype=kind, attn_implementation="sdpa")
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().split("\n")[0]
            raise InputError(f"policy {name} cannot be loaded ({reason}); check the folder or hub id") from error
        check_shapes(loaded, f"policy {name}")
        check_loaded(loaded, name)
        processor.tokenizer.padding_side = "left"
        model.requires_grad_(False).eval()
        return cls(model.to(device), processor, spec, max_new_tokens, batch_size)

    def stream(self, requests: Iterable[Request | None], sampling: Sampling = GREEDY) -> Iterator[Reply]:
        """Replies in the order of the requests, ``in_flight`` at a time or up to a None.

        A greedy request that is answered alone goes on from the prompt before it, as far as they begin alike. Sampled
        answers are made one request at a time: in a batch their chance would depend on the others.
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
            problem = self._problem(request)
            if problem is None:
                askable.append(request)
            else:
                yield Reply(request.key, (), 0, False, problem)
        if not askable:
            return
        if sampling == GREEDY and len(askable) == 1:
            output = self._written_alone(askable[0])
        else:
            inputs = self._inputs(askable)
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

    def stream_text(self, image: Image.Image, question: str) -> Generator[str, None, int | None]:
        """The text of :meth:`generate` word by word; generation runs in a thread while it is read.

        Returns the number of tokens at which the text was cut, None if it was not.
        Raises InputError for a question that cannot be asked, and whatever ends the generation.
        """
        request = Request(0, image, question)
        problem = self._problem(request)
        if problem is not None:
            raise InputError(problem)
        import torch
        from transformers import StoppingCriteriaList, TextIteratorStreamer

        streamer = TextIteratorStreamer(self.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        unread, failures, written = threading.Event(), list[BaseException](), list[Any]()

        def enough(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            return torch.full((ids.shape[0],), unread.is_set(), device=ids.device)

        def write() -> None:
            try:
                stop = StoppingCriteriaList([enough])
                written.append(self._written_alone(request, streamer=streamer, stopping_criteria=stop)[0])
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
        count, whole = _written(written[0].tolist(), self.processor.tokenizer)
        return None if whole else count

    def _written_alone(self, request: Request, **settings: Any) -> torch.Tensor:
        """The greedy answer to one request (1 x tokens), from where its prompt differs from the one before."""
        import torch

        pictures = pictures_of(request, self.spec)
        inputs = self._inputs([request], pictures)
        width = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            output: Any = self.model.generate(
                **self._kept.used(inputs, pictures), return_dict_in_generate=True, **settings
            )
        self._kept.keep(output.sequences, output.past_key_values, pictures)
        found: torch.Tensor = output.sequences[:, width:]
        return found

    @property
    def _limit(self) -> int:
        """Tokens of prompt and text together."""
        return self.model.config.get_text_config().max_position_embeddings

    def _prompt(self, request: Request) -> str:
        messages = build_messages(request.question, self.spec, context=request.context, pictures=request.pictures)
        return self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _problem(self, request: Request) -> str | None:
        image = self.spec.image_tokens + len(request.pictures) * self.spec.picture_tokens
        asked = request.question + request.context
        words, own = (len(self.processor.tokenizer(text)["input_ids"]) for text in (self._prompt(request), asked))
        return too_long(words + image, self._limit - 64, request.question, own, self.spec, image)

    def _inputs(self, requests: Sequence[Request], pictures: Sequence[Image.Image] | None = None) -> dict[str, Any]:
        """What ``generate`` takes to answer these requests greedily. pictures: of all of them, resized."""
        if pictures is None:
            pictures = [image for request in requests for image in pictures_of(request, self.spec)]
        inputs = self.processor(
            text=[self._prompt(request) for request in requests],
            images=list(pictures),
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
