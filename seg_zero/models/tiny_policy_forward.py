"""The tiny policy's forward pass for many questions on one image: the same weights, computed faster.

An image and what precedes the question (the prefix) are run once; each question with its response (a
segment) attends to the prefix and to itself. All images have 112 x 112 pixels, so positions and patch
order are constants. The result equals the official forward pass on each question alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.vision_utils import get_vision_position_ids

from seg_zero.models.tiny_policy_tokenizer import GRID, IMAGE_SIZE, MERGE_SIZE, PATCH_SIZE

PATCHES = IMAGE_SIZE // PATCH_SIZE  # per side
VISUAL_TOKENS = GRID * GRID
_PREFIX = "<|im_start|>user\n<|vision_start|>" + "<|image_pad|>" * VISUAL_TOKENS + "<|vision_end|>"
IMAGE_START = 4  # prefix tokens before the first visual token


@dataclass(frozen=True)
class Captured:
    """What training looks at besides the last hidden states.

    visual: B x 16 x D, what the vision tower hands over.
    middle: B x 16 x D, the visual tokens after half of the language model's layers.
    attention: N x L x (prefix + L), probabilities of head 0 in the layer that follows.
    copying: the same of head 1.
    """

    visual: Tensor
    middle: Tensor
    attention: Tensor
    copying: Tensor


def patchify(images: list[Image.Image], processor: Qwen2_5_VLProcessor) -> Tensor:
    """Images (112 x 112 RGB) as the processor's ``pixel_values``: B x 64 patches x 1176."""
    settings = processor.image_processor
    mean, deviation = (np.array(v, np.float32) for v in (settings.image_mean, settings.image_std))
    pixels = (np.stack([np.asarray(image, dtype=np.float32) for image in images]) / 255.0 - mean) / deviation
    cells = pixels.reshape(len(images), GRID, MERGE_SIZE, PATCH_SIZE, GRID, MERGE_SIZE, PATCH_SIZE, 3)
    patches = cells.transpose(0, 1, 4, 2, 5, 7, 3, 6)  # B, row, column, inner row, inner column, RGB, y, x
    twice = np.repeat(patches[..., None, :, :], 2, axis=-3)  # a still image is two equal frames
    return torch.from_numpy(twice.reshape(len(images), PATCHES * PATCHES, -1))


def visual_tokens(model: Qwen2_5_VLForConditionalGeneration, pixels: Tensor) -> Tensor:
    """``pixels`` (B x 64 x 1176) through the vision tower: B x 16 x D."""
    tower: Any = model.model.visual
    x = F.linear(pixels, tower.patch_embed.proj.weight.flatten(1))
    count, patches, width = x.shape
    place = get_vision_position_ids(torch.tensor([[1, PATCHES, PATCHES]], device=pixels.device), MERGE_SIZE)
    angles = tower.rotary_pos_emb(place).repeat(1, 2)
    cos, sin = angles.cos(), angles.sin()
    for block in tower.blocks:
        heads = block.attn.num_heads
        qkv = block.attn.qkv(block.norm1(x)).view(count, patches, 3, heads, width // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        x = x + block.attn.proj(_attend(_rotate(q, cos, sin), _rotate(k, cos, sin), v, None)[0])
        x = x + block.mlp(block.norm2(x))
    return tower.merger(x).view(count, VISUAL_TOKENS, -1)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """q (N x H x L x d) over k, v (N x G x S x d), H a multiple of G; returns N x L x (H d) and N x H x L x S."""
    count, heads, length, width = q.shape
    groups = k.shape[1]
    scores = q.reshape(count, groups, -1, width) @ k.transpose(2, 3) * width**-0.5
    scores = scores.view(count, heads, length, -1)
    weights = (scores if bias is None else scores + bias.to(scores.dtype)).softmax(-1).to(v.dtype)
    mixed = weights.view(count, groups, -1, weights.shape[-1]) @ v
    return mixed.view(count, heads, length, width).transpose(1, 2).flatten(2), weights


class PackedForward:
    """Runs ``model`` on B images with K segments each, on the device where the model is now."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor) -> None:
        self.model = model
        self.prefix = torch.tensor(processor.tokenizer(_PREFIX)["input_ids"], device=model.device)

    def _angles(self, length: int) -> tuple[Tensor, Tensor]:
        """Rotary cosines and sines of the prefix and a segment, (P + L) x head width."""
        rows, columns = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
        image = torch.stack([torch.zeros(VISUAL_TOKENS, dtype=torch.long), rows.flatten(), columns.flatten()])
        after = torch.arange(1 + length) + IMAGE_START + GRID
        place = torch.cat([torch.arange(IMAGE_START).expand(3, -1), image + IMAGE_START, after.expand(3, -1)], dim=1)
        language: Any = self.model.model.language_model
        cos, sin = language.rotary_emb(language.embed_tokens.weight, place[:, None].to(self.prefix.device))
        sections = language.config.rope_parameters["mrope_section"] * 2
        return tuple(  # type: ignore[return-value]
            torch.cat([part[i % 3, 0] for i, part in enumerate(table.split(sections, dim=-1))], dim=-1)
            for table in (cos, sin)
        )

    def __call__(self, pixels: Tensor, segments: Tensor) -> tuple[Tensor, Captured]:
        """Last hidden states of the segments.

        pixels: B x 64 x 1176. segments: N x L token ids, N = B K, those of one image side by side, padded
        on the right. Returns N x L x D and what was captured on the way.
        """
        language: Any = self.model.model.language_model
        count, length = segments.shape
        batch, p = len(pixels), len(self.prefix)
        visual = visual_tokens(self.model, pixels).float()
        start = language.embed_tokens(self.prefix).expand(batch, -1, -1)
        start = torch.cat([start[:, :IMAGE_START], visual, start[:, IMAGE_START + VISUAL_TOKENS :]], dim=1)
        x = torch.cat([start.flatten(0, 1), language.embed_tokens(segments).flatten(0, 1)])
        cos, sin = self._angles(length)
        bias = torch.full((p + length, p + length), float("-inf"), device=x.device).triu(1)
        middle = attention = copying = visual
        for number, layer in enumerate(language.layers):
            if number == len(language.layers) // 2:
                middle = x[: batch * p].view(batch, p, -1)[:, IMAGE_START : IMAGE_START + VISUAL_TOKENS]
            mixed, weights = self._self_attention(layer, x, (batch, count, length), (cos, sin), bias)
            if number == len(language.layers) // 2:
                attention, copying = weights[:, 0], weights[:, 1]
            x = x + layer.self_attn.o_proj(mixed)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        last = language.norm(x[batch * p :]).view(count, length, -1)
        return last, Captured(visual, middle, attention, copying)

    def _self_attention(
        self,
        layer: Any,
        x: Tensor,
        shape: tuple[int, int, int],
        angles: tuple[Tensor, Tensor],
        bias: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Mixed values of all tokens (flat) and the segments' attention, N x H x L x (P + L)."""
        (batch, count, length), (cos, sin), p = shape, angles, len(self.prefix)
        attn = layer.self_attn
        normed = layer.input_layernorm(x)
        parts = [proj(normed) for proj in (attn.q_proj, attn.k_proj, attn.v_proj)]

        def split(flat: Tensor, tables: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
            """Flat tokens as prefix (B x heads x P x d) and segments (N x heads x L x d), rotated by ``tables``."""
            first = flat[: batch * p].view(batch, p, -1, attn.head_dim).transpose(1, 2)
            second = flat[batch * p :].view(count, length, -1, attn.head_dim).transpose(1, 2)
            if tables is None:
                return first, second
            return _rotate(first, cos[:p], sin[:p]), _rotate(second, cos[p:], sin[p:])

        (q0, q1), (k0, k1), v = split(parts[0], angles), split(parts[1], angles), split(parts[2], None)
        repeat = count // batch
        keys = torch.cat([k0.repeat_interleave(repeat, 0), k1], dim=2)
        values = torch.cat([v[0].repeat_interleave(repeat, 0), v[1]], dim=2)
        first, _ = _attend(q0, k0, v[0], bias[:p, :p])
        second, weights = _attend(q1, keys, values, bias[p:])
        return torch.cat([first.flatten(0, 1), second.flatten(0, 1)]), weights
