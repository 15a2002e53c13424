"""Lessons of rounds as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Qwen2_5_VLProcessor

from seg_zero.data.synthetic.scenes import COLOURS
from seg_zero.dialogue.data.relations import Thing
from seg_zero.dialogue.data.synthetic import CORE, PARTS
from seg_zero.models.rounds.labels import RoundLabel, RoundsLesson
from seg_zero.models.tiny_policy_forward import VISUAL_TOKENS, patchify
from seg_zero.models.tiny_policy_losses import (
    MIN_OBJECT_SHARE,
    CellTruth,
    Helpers,
    Shown,
    padded,
    pixels_by_cell,
    read_out,
    truth_by_cell,
)
from seg_zero.models.tiny_policy_model import SPEC
from seg_zero.prompting import build_messages, prompt_text

PART_NAMES = (CORE, *PARTS)
MIN_PART_PIXELS = 20  # fewer pixels of a part than this do not make a cell "show" it


@dataclass(frozen=True)
class RoundsBatch:
    """As :class:`seg_zero.models.tiny_policy_losses.Batch`.

    cells: what each visual token shows of whole things; parts: of their parts, whose names are PART_NAMES.
    copied: N x L, where in the segment the coordinate stands that is written next, if it is one of the prompt; else -1.
    """

    pixels: Tensor
    segments: Tensor
    targets: Tensor
    looked_at: Tensor
    cells: CellTruth
    parts: CellTruth
    copied: Tensor


def cells_of(pictures: Sequence[Sequence[Thing]]) -> tuple[CellTruth, CellTruth]:
    """What each visual token shows of the whole things of each picture, and of their parts."""
    wholes = [[_shown(thing) for thing in things if thing.part_of is None] for things in pictures]
    parts = [[_shown(thing) for thing in things if thing.part_of is not None] for things in pictures]
    return truth_by_cell(wholes), truth_by_cell(parts, PART_NAMES, MIN_PART_PIXELS)


def _shown(thing: Thing) -> Shown:
    colour, shape = thing.words
    return Shown(thing.mask, colour, shape, thing.box)


class RoundsHelpers(Helpers):
    """Also read out what each visual token shows of a part."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.part = nn.Linear(width, 1 + len(COLOURS) + len(PART_NAMES) + 4)

    def see_loss(self, visual: Tensor, cells: CellTruth, parts: CellTruth) -> tuple[Tensor, dict[str, float]]:
        """Of wholes and of parts, from B x 16 x D; and how often a part's colour is right."""
        whole, _ = self.what_loss(visual, cells)
        part, right = read_out(self.part(visual).float(), parts)
        return whole + part, {"part_colour": right["colour"], "part_px": right["box_px"]}


class RoundsBatchMaker:
    """Turns lessons into batches; one attention head is to look at the thing that is being written about."""

    def __init__(self, processor: Qwen2_5_VLProcessor) -> None:
        self.processor = processor
        token = processor.tokenizer.convert_tokens_to_ids
        self.think, self.pad = token("<think>"), token("<|endoftext|>")
        self.another, self.then = token(" and instance"), token(" then")
        (self.the,) = processor.tokenizer(" the")["input_ids"]
        self.cited = (token(" instance"), self.another)
        self.name, self.box_word, self.bracket = token(', "'), token("bbox_2d"), token("[")
        chat = processor.apply_chat_template(
            build_messages("placeholder", SPEC), add_generation_prompt=True, tokenize=False
        )
        self.before, self.after = chat.split("<|vision_end|>")[1].split(prompt_text("placeholder", SPEC))

    def text(self, label: RoundLabel) -> str:
        """Prompt and response, from the image's end on."""
        prompt = prompt_text(label.question, SPEC, label.context)
        return f"{self.before}{prompt}{self.after}{label.text}<|im_end|>"

    def __call__(self, lessons: Sequence[RoundsLesson]) -> RoundsBatch:
        labels = [(label, lesson) for lesson in lessons for label in lesson.labels]
        rows = self.processor.tokenizer([self.text(label) for label, _ in labels])["input_ids"]
        segments, targets, firsts = padded(rows, self.think, self.pad)
        looked_at = torch.zeros(*segments.shape, VISUAL_TOKENS, dtype=torch.bool)
        copied = torch.full(segments.shape, -1)
        for n, (row, first, (label, lesson)) in enumerate(zip(rows, firsts, labels, strict=True)):
            shown = torch.from_numpy(pixels_by_cell(np.stack([lesson.things[place].mask for place in label.path])))
            cells = shown > MIN_OBJECT_SHARE * shown.sum(dim=1, keepdim=True)
            last = len(row) - 1
            starts = [first, *self._turns(row, first)]
            for start, end, seen in zip(starts, [*starts[1:], last], cells, strict=True):
                looked_at[n, start:end] = seen
            for place, source in self._copies(row, first):
                copied[n, place] = source
        pixels = patchify([lesson.image for lesson in lessons], self.processor)
        wholes, parts = cells_of([lesson.things for lesson in lessons])
        return RoundsBatch(pixels, segments, targets, looked_at, wholes, parts, copied)

    def _turns(self, row: Sequence[int], first: int) -> Iterator[int]:
        """Where the thought (from ``first`` on) goes on to another thing: to what is asked for, when that is named."""
        related = False
        for place in range(first, len(row)):
            related = related or row[place] == self.then
            if row[place] == self.another:
                yield place
            elif related and row[place] == self.the:
                yield place
                return

    def _copies(self, row: Sequence[int], first: int) -> Iterator[tuple[int, int]]:
        """Where the thought (from ``first`` on) is about to write a coordinate of the prompt, and where that stands."""
        boxes: dict[int, range] = {}  # by the token of the instance's number: its four coordinates, commas between
        instance = -1
        for place in range(first):
            if row[place] == self.name:
                instance = row[place - 1]
            elif row[place] == self.box_word:
                boxes[instance] = range(place + 2, place + 10, 2)
        for place in range(first, len(row)):
            if row[place] in self.cited:
                instance = row[place + 2]
            elif row[place] == self.then:
                return
            elif row[place] == self.bracket:
                yield from zip(range(place, place + 8, 2), boxes[instance], strict=True)


def copy_loss(copying: Tensor, copied: Tensor, prefix: int) -> Tensor:
    """Minus the log of the attention (N x L x (prefix + L)) that falls on the coordinate to be copied; 0 if none is."""
    rows, places = (copied >= 0).nonzero(as_tuple=True)
    if not len(rows):
        return copying.sum() * 0
    return -(copying[rows, places, prefix + copied[rows, places]] + 1e-4).log().mean()
