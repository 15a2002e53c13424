"""Lessons as tensors, and the losses that teach the tiny policy from them.

Besides imitating the annotators, three helpers shape the way to an answer: the vision tower says what
each visual token shows, the language model's middle layer says where, and one attention head looks at
the object that is being written down. The helpers fade out before training ends and leave no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from seg_zero.data.synthetic.scenes import COLOURS, SHAPES, Scene
from seg_zero.models.tiny_policy_data import Lesson
from seg_zero.models.tiny_policy_forward import IMAGE_START, VISUAL_TOKENS, Captured, patchify
from seg_zero.models.tiny_policy_model import SPEC
from seg_zero.models.tiny_policy_tokenizer import GRID, IMAGE_SIZE
from seg_zero.objects import Box
from seg_zero.prompting import build_messages, prompt_text

CELL = IMAGE_SIZE // GRID  # pixels per side of a visual token
MIN_CELL_PIXELS = 40  # fewer pixels of an object than this do not make a cell "show" it
MIN_OBJECT_SHARE = 0.05  # of an object's pixels: cells with less are not looked at for it
IGNORED = -100


@dataclass(frozen=True)
class CellTruth:
    """What each visual token shows, B x 16 each (boxes B x 16 x 4, in pixels); -100 where nothing is."""

    present: Tensor
    colour: Tensor
    shape: Tensor
    box: Tensor


@dataclass(frozen=True)
class Batch:
    """B images with K segments each, N = B K.

    segments: N x L token ids. targets: N x L, the id that follows where it is to be learnt, else -100.
    looked_at: N x L x 16, true for the visual tokens to look at there; none where it does not matter.
    """

    pixels: Tensor
    segments: Tensor
    targets: Tensor
    looked_at: Tensor
    cells: CellTruth


def cell_pixels(scene: Scene) -> np.ndarray:
    """Pixels of each object in each cell, objects x 16."""
    return pixels_by_cell(np.stack([o.mask for o in scene.objects]))


def pixels_by_cell(masks: np.ndarray) -> np.ndarray:
    """Pixels of each mask (N x 112 x 112) in each cell, N x 16."""
    return masks.reshape(len(masks), GRID, CELL, GRID, CELL).sum(axis=(2, 4)).reshape(len(masks), -1)


@dataclass(frozen=True)
class Shown:
    """Something in a picture: its mask (112 x 112), its colour, its shape and its box in pixels."""

    mask: np.ndarray
    colour: str
    shape: str
    box: Box


def cell_truth(scenes: Sequence[Scene]) -> CellTruth:
    """What each visual token shows of the objects of each scene."""
    return truth_by_cell(
        [[Shown(o.mask, o.colour, o.shape, o.prompt.box) for o in scene.objects if o.prompt.box] for scene in scenes]
    )


def truth_by_cell(
    pictures: Sequence[Sequence[Shown]], shapes: Sequence[str] = SHAPES, least: int = MIN_CELL_PIXELS
) -> CellTruth:
    """What each visual token shows most of, if that has ``least`` pixels there. shapes: the names that are counted."""
    colours = list(COLOURS)
    present = torch.zeros(len(pictures), VISUAL_TOKENS, dtype=torch.bool)
    colour = torch.full((len(pictures), VISUAL_TOKENS), IGNORED)
    shape = colour.clone()
    box = torch.zeros(len(pictures), VISUAL_TOKENS, 4)
    for row, items in enumerate(pictures):
        if not items:
            continue
        pixels = pixels_by_cell(np.stack([item.mask for item in items]))
        for cell in np.nonzero(pixels.max(axis=0) >= least)[0]:
            item = items[int(pixels[:, cell].argmax())]
            present[row, cell] = True
            colour[row, cell], shape[row, cell] = colours.index(item.colour), list(shapes).index(item.shape)
            box[row, cell] = torch.tensor(item.box)
    return CellTruth(present, colour, shape, box)


def padded(rows: Sequence[Sequence[int]], think: int, pad: int) -> tuple[Tensor, Tensor, list[int]]:
    """Token ids of prompts with responses as segments and targets (N x L), and the place of each response's <think>.

    The response is learnt, from its <think> on. L is one less than the longest: the last id is only ever a target.
    """
    length = max(len(row) for row in rows) - 1
    segments = torch.full((len(rows), length), pad)
    targets = torch.full((len(rows), length), IGNORED)
    firsts = []
    for n, row in enumerate(rows):
        ids, last = torch.tensor(row), len(row) - 1
        firsts.append(last - list(row)[::-1].index(think))
        segments[n, :last] = ids[:-1]
        targets[n, firsts[n] - 1 : last] = ids[firsts[n] :]
    return segments, targets, firsts


class BatchMaker:
    """Turns lessons into batches; the questions are worded and tokenised as everywhere else."""

    def __init__(self, processor: Qwen2_5_VLProcessor) -> None:
        self.processor = processor
        token = processor.tokenizer.convert_tokens_to_ids
        self.think, self.box_word, self.pad = token("<think>"), token("bbox_2d"), token("<|endoftext|>")
        chat = processor.apply_chat_template(
            build_messages("placeholder", SPEC), add_generation_prompt=True, tokenize=False
        )
        self.before, self.after = chat.split("<|vision_end|>")[1].split(prompt_text("placeholder", SPEC))

    def __call__(self, lessons: Sequence[Lesson]) -> Batch:
        texts = [
            f"{self.before}{prompt_text(q.text, SPEC)}{self.after}{a.text}<|im_end|>"
            for lesson in lessons
            for q, a in zip(lesson.questions, lesson.labels, strict=True)
        ]
        rows = self.processor.tokenizer(texts)["input_ids"]
        segments, targets, firsts = padded(rows, self.think, self.pad)
        looked_at = torch.zeros(*segments.shape, VISUAL_TOKENS, dtype=torch.bool)
        shown = [
            torch.from_numpy(cell_pixels(lesson.scene))[list(label.shown)]
            for lesson in lessons
            for label in lesson.labels
        ]
        for n, (row, first, pixels) in enumerate(zip(rows, firsts, shown, strict=True)):
            if len(pixels):
                cells = pixels > MIN_OBJECT_SHARE * pixels.sum(dim=1, keepdim=True)
                looked_at[n, first : len(row) - 1] = cells.any(dim=0)
                starts = [place for place, token in enumerate(row) if token == self.box_word]
                for start, end, seen in zip(starts, [*starts[1:], len(row) - 1], cells, strict=True):
                    looked_at[n, start:end] = seen
        scenes = [lesson.scene for lesson in lessons]
        pixel_values = patchify([scene.image for scene in scenes], self.processor)
        return Batch(pixel_values, segments, targets, looked_at, cell_truth(scenes))


class Helpers(nn.Module):
    """Training-only read-outs of the visual tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.what = nn.Linear(width, 1 + len(COLOURS) + len(SHAPES) + 4)
        self.where = nn.Linear(width, 4)

    def what_loss(self, visual: Tensor, truth: CellTruth) -> tuple[Tensor, dict[str, float]]:
        """Presence, colour, shape and box (relative to the cell, in cells) from B x 16 x D."""
        return read_out(self.what(visual).float(), truth)

    def where_loss(self, middle: Tensor, truth: CellTruth) -> Tensor:
        """The object's box in units of the image from B x 16 x D."""
        found = self.where(middle).float()[truth.present]
        return F.smooth_l1_loss(found, truth.box[truth.present] / IMAGE_SIZE, beta=0.02)


def read_out(found: Tensor, truth: CellTruth) -> tuple[Tensor, dict[str, float]]:
    """Loss and accuracies of what is read from each visual token, B x 16 x (presence, colours, shapes, box)."""
    present, colour, shape, box = found.split([1, len(COLOURS), found.shape[-1] - 5 - len(COLOURS), 4], dim=-1)
    index = torch.arange(VISUAL_TOKENS, device=found.device)
    corner = torch.stack([index % GRID, index // GRID] * 2, dim=1) * CELL
    shown = truth.present
    off_by = F.smooth_l1_loss(box[shown], ((truth.box - corner) / CELL)[shown], beta=0.05)
    losses = (
        F.binary_cross_entropy_with_logits(present[..., 0], shown.float()),
        F.cross_entropy(colour.flatten(0, 1), truth.colour.flatten(), ignore_index=IGNORED),
        F.cross_entropy(shape.flatten(0, 1), truth.shape.flatten(), ignore_index=IGNORED),
        4 * off_by,
    )
    right = {
        "present": float(((present[..., 0] > 0) == shown).float().mean()),
        "colour": float((colour.argmax(-1) == truth.colour)[shown].float().mean()),
        "shape": float((shape.argmax(-1) == truth.shape)[shown].float().mean()),
        "box_px": float(((box.detach() * CELL + corner) - truth.box)[shown].abs().mean()),
    }
    return torch.stack(losses).sum(), right


def look_loss(attention: Tensor, looked_at: Tensor) -> Tensor:
    """Minus the log of the attention (N x L x (prefix + L)) that falls on the tokens to look at."""
    on_image = attention[..., IMAGE_START : IMAGE_START + VISUAL_TOKENS].float()
    mass = (on_image * looked_at).sum(-1)[looked_at.any(-1)]
    return -(mass + 1e-4).log().mean()


@dataclass(frozen=True)
class Barred:
    """Ids that some places do not choose from: the target there is learnt given that none of them follows.

    places: N x L, true where that is so. ids: never a target there, or the loss is infinite.
    """

    places: Tensor
    ids: tuple[int, ...]


def imitation_loss(
    model: Qwen2_5_VLForConditionalGeneration, last: Tensor, targets: Tensor, barred: Barred | None = None
) -> Tensor:
    """Mean cross-entropy per token to be learnt; ``last`` N x L x D, ``targets`` N x L."""
    learnt = targets != IGNORED
    logits = model.lm_head(last[learnt]).float()
    if barred is not None:
        left_out = torch.zeros_like(logits, dtype=torch.bool)
        left_out[:, list(barred.ids)] = barred.places[learnt][:, None]
        logits = logits.masked_fill(left_out, -torch.inf)
    return F.cross_entropy(logits, targets[learnt])


@dataclass(frozen=True)
class Weights:
    """Weights of the helpers' losses at the start of training."""

    what: float = 0.3
    where: float = 1.0
    look: float = 0.5


def helper_loss(helpers: Helpers, seen: Captured, batch: Batch, weights: Weights) -> tuple[Tensor, dict[str, float]]:
    what, right = helpers.what_loss(seen.visual, batch.cells)
    where, look = helpers.where_loss(seen.middle, batch.cells), look_loss(seen.attention, batch.looked_at)
    total = weights.what * what + weights.where * 10 * where + weights.look * look
    return total, {**right, "where": float(where.detach()), "look": float(look.detach())}
