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
    masks = np.stack([o.mask for o in scene.objects])
    return masks.reshape(len(masks), GRID, CELL, GRID, CELL).sum(axis=(2, 4)).reshape(len(masks), -1)


def cell_truth(scenes: Sequence[Scene]) -> CellTruth:
    colours, shapes = list(COLOURS), list(SHAPES)
    present = torch.zeros(len(scenes), VISUAL_TOKENS, dtype=torch.bool)
    colour = torch.full((len(scenes), VISUAL_TOKENS), IGNORED)
    shape = colour.clone()
    box = torch.zeros(len(scenes), VISUAL_TOKENS, 4)
    for row, scene in enumerate(scenes):
        pixels = cell_pixels(scene)
        for cell in np.nonzero(pixels.max(axis=0) >= MIN_CELL_PIXELS)[0]:
            item = scene.objects[int(pixels[:, cell].argmax())]
            present[row, cell] = True
            colour[row, cell], shape[row, cell] = colours.index(item.colour), shapes.index(item.shape)
            box[row, cell] = torch.tensor(item.prompt.box)
    return CellTruth(present, colour, shape, box)


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
        length = max(len(row) for row in rows) - 1  # the last token is only ever a target
        segments = torch.full((len(rows), length), self.pad)
        targets = torch.full((len(rows), length), IGNORED)
        looked_at = torch.zeros(len(rows), length, VISUAL_TOKENS, dtype=torch.bool)
        shown = [
            torch.from_numpy(cell_pixels(lesson.scene))[list(label.shown)]
            for lesson in lessons
            for label in lesson.labels
        ]
        for n, (row, pixels) in enumerate(zip(rows, shown, strict=True)):
            ids = torch.tensor(row)
            first = len(row) - 1 - row[::-1].index(self.think)
            segments[n, : len(row) - 1] = ids[:-1]
            targets[n, first - 1 : len(row) - 1] = ids[first:]
            if len(pixels):
                cells = pixels > MIN_OBJECT_SHARE * pixels.sum(dim=1, keepdim=True)
                looked_at[n, first : len(row) - 1] = cells.any(dim=0)
                starts = (ids == self.box_word).nonzero()[:, 0].tolist()
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
        present, colour, shape, box = self.what(visual).float().split([1, len(COLOURS), len(SHAPES), 4], dim=-1)
        index = torch.arange(VISUAL_TOKENS)
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

    def where_loss(self, middle: Tensor, truth: CellTruth) -> Tensor:
        """The object's box in units of the image from B x 16 x D."""
        found = self.where(middle).float()[truth.present]
        return F.smooth_l1_loss(found, truth.box[truth.present] / IMAGE_SIZE, beta=0.02)


def look_loss(attention: Tensor, looked_at: Tensor) -> Tensor:
    """Minus the log of the attention (N x L x (prefix + L)) that falls on the tokens to look at."""
    on_image = attention[..., IMAGE_START : IMAGE_START + VISUAL_TOKENS].float()
    mass = (on_image * looked_at).sum(-1)[looked_at.any(-1)]
    return -(mass + 1e-4).log().mean()


def imitation_loss(model: Qwen2_5_VLForConditionalGeneration, last: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy per token to be learnt; ``last`` N x L x D, ``targets`` N x L."""
    learnt = targets != IGNORED
    return F.cross_entropy(model.lm_head(last[learnt]).float(), targets[learnt])


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
