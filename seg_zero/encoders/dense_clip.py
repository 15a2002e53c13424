"""CLIP with a vector for every patch: transformers' towers, the last image block without attention.

The dense form of the last block is that of CAT-Seg (arXiv 2303.11797): each token becomes its value vector plus the
residual of the class token, then the MLP follows. Text and patches lie in one space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, CLIPVisionModel

from seg_zero.errors import InputError

HEAD_WIDTH = 64  # of every published CLIP
START_TOKEN, END_TOKEN = 49406, 49407


@dataclass(frozen=True)
class VisionSettings:
    """An image tower. Lengths are in pixels.

    native: side of the pictures it was trained on, which gives its table of positions; side: of those it gets here.
    taken: numbers of the blocks, from 0, whose outputs guide the upsampling, the coarser one first.
    """

    native: int
    side: int
    patch: int
    width: int
    layers: int
    taken: tuple[int, int]
    heads: int

    def __post_init__(self) -> None:
        if min(self.native, self.side, self.patch, self.width, self.layers, self.heads) < 1:
            raise InputError(f"an image tower with a size below 1: {self}")
        if self.side % self.patch or self.native % self.patch:
            raise InputError(
                f"sides {self.native} and {self.side} are no multiples of patches of {self.patch} pixels; change them"
            )
        if self.width % self.heads:
            raise InputError(f"width {self.width} cannot be split among {self.heads} heads; give a divisor")
        if not 0 <= self.taken[0] < self.taken[1] < self.layers:
            raise InputError(f"blocks {self.taken} of {self.layers} cannot be taken; give two from 0, rising")

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.side // self.patch


@dataclass(frozen=True)
class ClipSettings:
    """Both towers of a CLIP. embed: width of the space that they share."""

    vision: VisionSettings
    embed: int
    text_width: int
    text_layers: int
    text_heads: int
    text_length: int = 77
    vocabulary: int = 49408


def _vision_config(settings: VisionSettings, embed: int, layers: int) -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=settings.width,
        intermediate_size=4 * settings.width,
        projection_dim=embed,
        num_hidden_layers=layers,
        num_attention_heads=settings.heads,
        image_size=settings.native,
        patch_size=settings.patch,
        hidden_act="quick_gelu",
    )


def as_map(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """B x (1 + h w) x C tokens, the class token first, to B x C x h x w without it."""
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (height, width))


def _until(
    tower: Any, pixels: torch.Tensor, stop: int, taken: Sequence[int]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The tokens after ``stop`` blocks, and the outputs of those ``taken``."""
    tokens = tower.pre_layrnorm(tower.embeddings(pixels, interpolate_pos_encoding=True))
    kept = {}
    for number, block in enumerate(tower.encoder.layers[:stop]):
        tokens = kept[number] = block(tokens, None)
    return tokens, [kept[number] for number in taken]


def dense_block(block: Any, tokens: torch.Tensor) -> torch.Tensor:
    """A block of transformers' CLIP in its dense form: B x N x C, the class token first, to B x N x C."""
    attention = block.self_attn
    values = attention.out_proj(attention.v_proj(block.layer_norm1(tokens)))
    tokens = values + tokens[:, :1]
    return tokens + block.mlp(block.layer_norm2(tokens))


class DenseClip(nn.Module):
    """Patches and texts to vectors in one space. Neither is normalised."""

    def __init__(self, settings: ClipSettings) -> None:
        super().__init__()
        self.settings = settings
        vision = _vision_config(settings.vision, settings.embed, settings.vision.layers)
        text = CLIPTextConfig(
            vocab_size=settings.vocabulary,
            hidden_size=settings.text_width,
            intermediate_size=4 * settings.text_width,
            projection_dim=settings.embed,
            num_hidden_layers=settings.text_layers,
            num_attention_heads=settings.text_heads,
            max_position_embeddings=settings.text_length,
            hidden_act="quick_gelu",
            bos_token_id=settings.vocabulary - 2,
            eos_token_id=settings.vocabulary - 1,
        )
        config = CLIPConfig(projection_dim=settings.embed)
        config.text_config, config.vision_config = text, vision
        self.model: Any = CLIPModel(config)

    def image(
        self, pixels: torch.Tensor, taken: Sequence[int] = (), taken_from: int | None = None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """B x 3 x H x W normalised pixels to dense features B x embed x h x w, and maps of the blocks ``taken``.

        taken_from: how many pictures of the batch, from its start, the maps are for (default: all).
        """
        tower, patch = self.model.vision_model, self.settings.vision.patch
        size = pixels.shape[2] // patch, pixels.shape[3] // patch
        tokens, middle = _until(tower, pixels, len(tower.encoder.layers) - 1, taken)
        tokens = self.model.visual_projection(tower.post_layernorm(dense_block(tower.encoder.layers[-1], tokens)))
        return as_map(tokens, *size), [as_map(part[:taken_from], *size) for part in middle]

    def text(self, tokens: torch.Tensor) -> torch.Tensor:
        """n x length token numbers to n x embed. The end token must be the highest number of the vocabulary."""
        return self.model.get_text_features(input_ids=tokens).pooler_output


class VisionGuide(nn.Module):
    """The first blocks of a CLIP image tower: what it saw half-way. Blocks above those taken are not built."""

    def __init__(self, settings: VisionSettings) -> None:
        super().__init__()
        self.settings = settings
        model: Any = CLIPVisionModel(_vision_config(settings, settings.width, settings.taken[-1] + 1))
        model.post_layernorm = nn.Identity()  # a picture never gets there
        self.model = model

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """B x 3 x H x W normalised pixels to two maps B x width x h x w."""
        settings = self.settings
        size = pixels.shape[2] // settings.patch, pixels.shape[3] // settings.patch
        _, middle = _until(self.model, pixels, len(self.model.encoder.layers), settings.taken)
        return [as_map(part, *size) for part in middle]
