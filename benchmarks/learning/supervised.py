"""The peer of GRPO in the study: going on with supervised training, on the same rows.

The answers are exact. What is taught as reasoning is either nothing (the case of datasets that have only boxes and
points, which is where GRPO is wanted) or that of the careful annotators (more than GRPO is given).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.synthetic.scenes import Sample
from seg_zero.models.tiny_policy_data import careful_label
from seg_zero.models.tiny_policy_model import SPEC, save_policy
from seg_zero.policy import Request
from seg_zero.policy.model_files import TINY_POLICY
from seg_zero.prompting import build_messages

ROWS_PER_STEP = 16
MICRO_BATCH = 64
CLIP = 1.0  # gradient norm, as in the schedule of GRPO
WEIGHT_DECAY = 0.01


def target_of(sample: Sample, reasoned: bool) -> str:
    """The exact response; without reasoning the think block is empty."""
    if reasoned:
        return careful_label(sample.scene, sample.question).text
    return write_answer("", write_solution_multi([sample.scene.objects[i].prompt for i in sample.question.targets]))


def _loss(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, requests: Sequence[Request],
          responses: Sequence[str]) -> torch.Tensor:  # fmt: skip
    """Mean cross-entropy of the response tokens of a batch."""
    messages = [build_messages(one.question, SPEC, context=one.context) for one in requests]
    prompts = [processor.apply_chat_template(one, add_generation_prompt=True, tokenize=False) for one in messages]
    ends = [response + "<|im_end|>" for response in responses]
    inputs = processor(
        text=[a + b for a, b in zip(prompts, ends, strict=True)],
        images=[one.image for one in requests],
        return_tensors="pt",
        padding=True,
        padding_side="right",
    )
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    for row, end in enumerate(ends):
        response = len(processor.tokenizer(end)["input_ids"])
        length = int(inputs["attention_mask"][row].sum())
        labels[row, : length - response] = -100
    return model(**inputs, labels=labels).loss


def train(
    samples: Sequence[Sample], out: Path, *, seed: int, rate: float, reasoned: bool, steps: int, passes: int
) -> list[float]:
    """Train the embedded policy on exact answers; see :func:`train_on`."""
    responses = [target_of(sample, reasoned) for sample in samples]
    return train_on(requests_of(samples), responses, out, seed=seed, rate=rate, steps=steps, passes=passes)


def requests_of(samples: Sequence[Sample]) -> list[Request]:
    """The questions as the policy is asked them."""
    return [Request(number, one.scene.image, one.question.text) for number, one in enumerate(samples)]


def train_on(
    requests: Sequence[Request],
    responses: Sequence[str],
    out: Path,
    *,
    seed: int,
    rate: float,
    steps: int,
    passes: int,
    start: str | Path = TINY_POLICY,
) -> list[float]:
    """Train the policy ``start`` in float32 on a response to each request and save it in ``out``; returns the losses.

    Pictures are as large as the policy sees them; there are none beside the image.

    Each step takes the next ROWS_PER_STEP rows, in an order drawn from ``seed``, ``passes`` times over: as many samples
    as GRPO has with ``n = passes``, in ``passes`` times as many updates.
    """
    torch.manual_seed(seed)
    processor = Qwen2_5_VLProcessor.from_pretrained(start)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(start, dtype=torch.float32).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    order = np.random.default_rng(seed).permutation(len(requests))
    losses = []
    for number in range(steps * passes):
        step = number % steps
        rows = order[step * ROWS_PER_STEP : (step + 1) * ROWS_PER_STEP]
        loss = _loss(model, processor, [requests[i] for i in rows], [responses[i] for i in rows])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    save_policy(model.eval(), processor, out, torch.float32)
    return losses
