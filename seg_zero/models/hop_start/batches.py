"""Lessons of several hops as tensors, and how many of the hops a batch's predictions get right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Qwen2_5_VLProcessor

from seg_zero.models.hop_start.labels import HopLabel, HopLesson
from seg_zero.models.tiny_policy_forward import VISUAL_TOKENS, patchify
from seg_zero.models.tiny_policy_losses import (
    IGNORED,
    MIN_OBJECT_SHARE,
    Barred,
    Batch,
    cell_pixels,
    cell_truth,
    padded,
)
from seg_zero.models.tiny_policy_model import SPEC
from seg_zero.models.tiny_policy_tokenizer import number_ids
from seg_zero.prompting import build_messages, prompt_text

NEAR = 8  # pixels: a predicted coordinate within these counts as right


@dataclass(frozen=True)
class HopBatch:
    """A batch as the losses take it, with where hops lead.

    hops: N x L, true where the next id is the first coordinate of an object that a hop leads to.
    names: N x L, true where the next id is of that object's name.
    barred: after a shape that is passed by, its list is learnt given that there is one: that neither the next object
    nor the thought's end follows.
    """

    batch: Batch
    hops: Tensor
    names: Tensor
    barred: Barred


class HopBatchMaker:
    """Turns lessons into batches; one attention head is to look at the object that is being written down.

    While a relation is written that is the object it starts from, from the following "the" on the one it leads to.
    """

    def __init__(self, processor: Qwen2_5_VLProcessor) -> None:
        self.processor = processor
        token = processor.tokenizer.convert_tokens_to_ids
        self.think, self.end, self.pad = token("<think>"), token("</think>"), token("<|endoftext|>")
        self.the = _only(processor, " the")
        self.opening, self.closing, self.next = _only(processor, " ("), _only(processor, ")"), _only(processor, ";")
        self.values = torch.full((len(processor.tokenizer),), -1000)
        numbers = number_ids(processor.tokenizer)
        self.values[numbers] = torch.arange(len(numbers))
        chat = processor.apply_chat_template(
            build_messages("placeholder", SPEC), add_generation_prompt=True, tokenize=False
        )
        self.before, self.after = chat.split("<|vision_end|>")[1].split(prompt_text("placeholder", SPEC))

    def __call__(self, lessons: Sequence[HopLesson]) -> HopBatch:
        labels = [label for lesson in lessons for label in lesson.labels]
        rows = self.processor.tokenizer(
            [
                f"{self.before}{prompt_text(label.question, SPEC)}{self.after}{label.text}{'<|im_end|>' * label.ended}"
                for label in labels
            ]
        )["input_ids"]
        segments, targets, firsts = padded(rows, self.think, self.pad)
        looked_at = torch.zeros(*segments.shape, VISUAL_TOKENS, dtype=torch.bool)
        hops, names, listed = (torch.zeros(segments.shape, dtype=torch.bool) for _ in range(3))
        pixels = [torch.from_numpy(cell_pixels(lesson.scene)) for lesson in lessons for _ in lesson.labels]
        for n, (row, first, label, shown) in enumerate(zip(rows, firsts, labels, pixels, strict=True)):
            last = len(row) - 1
            cells = shown > MIN_OBJECT_SHARE * shown.sum(dim=1, keepdim=True)
            starts = self._starts(row, first, label)
            for index, start, stop in zip(label.path, starts, [*starts[1:], last], strict=True):
                looked_at[n, start:stop] = cells[index]
            for place, start in enumerate(starts[1:], 1):
                if row[start - 2] == self.closing:  # a shape that the annotator chose: no hop led to it
                    targets[n, start - 2] = IGNORED  # nor is it taught that one follows
                    continue
                opening = row.index(self.opening, start)
                if place in label.passed:
                    targets[n, start : opening - 1] = IGNORED  # its name
                    looked_at[n, start : opening - 1] = False  # nor where it is, before it is named
                    listed[n, row.index(self.closing, start)] = True  # what is left, given that the list goes on
                    continue
                hops[n, opening] = True
                names[n, start : opening - 1] = True
        images = patchify([lesson.scene.image for lesson in lessons], self.processor)
        scenes = [lesson.scene for lesson in lessons]
        barred = Barred(listed, (self.next, self.end))
        return HopBatch(Batch(images, segments, targets, looked_at, cell_truth(scenes)), hops, names, barred)

    def _starts(self, row: list[int], first: int, label: HopLabel) -> list[int]:
        """From where on each object of the label's path is looked at."""
        if label.silent:
            return [first]
        found = [place for place in range(first, len(row)) if row[place] == self.the]
        if len(found) != len(label.path):
            raise ValueError(f"{label.text!r} names {len(found)} objects, its path {len(label.path)}")
        return [first, *found[1:]]

    def hop_accuracy(self, predicted: Tensor, made: HopBatch) -> float:
        """Fraction of hops whose first coordinate is right within :data:`NEAR` pixels; ``predicted``: N x L ids.

        The true name stands before it, so this says whether a named object is found, not whether the hop is.
        """
        values = self.values.to(predicted.device)
        wanted = values[made.batch.targets[made.hops]]
        given = values[predicted[made.hops]]
        return float(((wanted - given).abs() <= NEAR).float().mean())

    def name_accuracy(self, predicted: Tensor, made: HopBatch) -> float:
        """Fraction of the words that name what a hop leads to that are right; ``predicted``: N x L ids."""
        return float((predicted == made.batch.targets)[made.names].float().mean())


def _only(processor: Qwen2_5_VLProcessor, text: str) -> int:
    """The id of a text that is one token."""
    (found,) = processor.tokenizer(text)["input_ids"]
    return int(found)
