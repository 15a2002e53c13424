"""How many tokens the prompts of a dataset have, image tokens included, and which of them are short enough."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.data.cache import remembered
from seg_zero.data.source import RowSource
from seg_zero.data.stores import digest
from seg_zero.errors import InputError
from seg_zero.prompting import PromptSpec, build_messages, prompt_text

_BATCH = 2048
# Two chat templates that differ in how they treat these characters would not pass for each other.
_PROBE = "zq1 <a> \"b\" 'c' \\n {d} é"


class PromptLengths:
    """Counts prompt tokens without processing the images.

    All images have one size, so the processor runs once; a question adds its own text tokens. image_tokens,
    template_tokens: how many every prompt has beside them (the latter may be off by one at the question's ends).
    """

    def __init__(self, processor: Any, spec: PromptSpec, processor_kwargs: dict[str, Any]):
        self._processor, self._spec, self._kwargs = processor, spec, processor_kwargs
        probe = Image.new("RGB", (spec.image_size, spec.image_size))
        text = self._render("probe")
        whole = processor(text=[text], images=[probe], **processor_kwargs)["input_ids"][0]
        words, asked = self._text_tokens([text, "probe"])
        self.image_tokens, self.template_tokens = len(whole) - words, words - asked
        before, found, after = self._render(_PROBE).partition(prompt_text(_PROBE, spec))
        # Rendering a chat template costs as much as tokenising; most of them put the text in as it is.
        self._frame = (before, after) if found else None

    def _render(self, question: str, context: str = "") -> str:
        messages = build_messages(question, self._spec, context=context)
        return self._processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def _text_tokens(self, texts: Sequence[str]) -> list[int]:
        options = {"add_special_tokens": False, "return_attention_mask": False}
        return [len(ids) for ids in self._processor.tokenizer(list(texts), **options)["input_ids"]]

    def _text(self, question: str, context: str = "") -> str:
        if self._frame is None:
            return self._render(question, context)
        return self._frame[0] + prompt_text(question, self._spec, context) + self._frame[1]

    def __call__(self, questions: Sequence[str]) -> np.ndarray:
        """Tokens of each question's prompt, int32; each different question is counted once, in parallel batches."""
        places = {question: place for place, question in enumerate(dict.fromkeys(questions))}
        distinct, lengths = list(places), np.empty(len(places), dtype=np.int32)
        for first in range(0, len(distinct), _BATCH):
            texts = [self._text(question) for question in distinct[first : first + _BATCH]]
            lengths[first : first + len(texts)] = self._text_tokens(texts)
        return self.image_tokens + lengths[[places[question] for question in questions]]

    def of_round(self, question: str, context: str, pictures: int) -> int:
        """Tokens of a question's prompt with a context and further pictures, as :func:`build_messages` makes it.

        Each picture takes its tokens and two that enclose them.
        """
        (words,) = self._text_tokens([self._text(question, context)])
        return int(self.image_tokens + words + pictures * (self._spec.picture_tokens + 2))

    def key(self) -> str:
        """A digest of everything but the questions that the counts depend on."""
        tokenizer = self._processor.tokenizer
        content = tokenizer.backend_tokenizer.to_str()
        rendered = self._render("probe")
        spec = self._spec
        return digest(
            content, rendered, spec.template, spec.normalisation, spec.image_size, self.image_tokens, self._kwargs
        )


def prompt_lengths(source: RowSource, lengths: PromptLengths) -> np.ndarray:
    """Prompt tokens of every row, int32; kept on disk by the content of dataset, tokenizer and prompt settings."""

    def compute() -> np.ndarray:
        questions = source.column("problem")
        for index, question in enumerate(questions):
            if not isinstance(question, str) or not question.strip():
                raise InputError(f"row {source.number(index)} of {source.name}: the question is empty; remove the row")
        return lengths(questions)

    def encode(counts: np.ndarray) -> bytes:
        stream = io.BytesIO()
        np.save(stream, counts)
        return stream.getvalue()

    def decode(data: bytes) -> np.ndarray:
        try:
            counts = np.load(io.BytesIO(data), allow_pickle=False)
        except EOFError as error:
            raise ValueError("the file is cut off") from error
        if counts.dtype != np.int32 or counts.shape != (len(source),):
            raise ValueError(f"not {len(source)} counts")
        return counts

    return remembered("prompt_lengths", digest(source.fingerprint, lengths.key()), compute, encode, decode)[0]


def keep_short(source: RowSource, lengths: PromptLengths, limit: int) -> RowSource:
    """The rows whose prompt has at most ``limit`` tokens; prints how many are skipped.

    Raises InputError if none is left.
    """
    counts = prompt_lengths(source, lengths)
    kept = np.flatnonzero(counts <= limit)
    if len(counts) and not len(kept):
        raise InputError(
            f"every prompt of {source.name} is longer than data.max_prompt_length={limit} tokens (the shortest has "
            f"{counts.min()}, of which the image has {lengths.image_tokens} and the prompt template "
            f"{lengths.template_tokens}); raise data.max_prompt_length, lower policy.image_size or shorten the template"
        )
    if len(kept) == len(counts):
        return source
    print(f"{len(counts) - len(kept)} of {len(counts)} prompts of {source.name} exceed {limit} tokens and are skipped")
    return source.select(kept)
