"""DINO's vision transformer at more patches than it was trained on, by timm."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from seg_zero.encoders.dense_clip import VisionSettings, as_map

EPSILON = 1e-6
# DINO adds this to the side of the grid before it forms the scale factor, so that rounding cannot lose a row; the
# factor, and not the size, is what bicubic interpolation then uses.
_NUDGE = 0.1


def resized_positions(table: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """DINO's table of positions, 1 x (1 + n n) x C with the class token first, for a grid of height x width patches.

    As in facebookresearch/dino: bicubic with a scale factor of (side + 0.1) / n; interpolation to a size, as timm does,
    differs by some thousandths.
    """
    side = round((table.shape[1] - 1) ** 0.5)
    if (height, width) == (side, side):
        return table
    grid = table[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    factors = ((height + _NUDGE) / side, (width + _NUDGE) / side)
    grid = F.interpolate(grid, scale_factor=factors, mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


class _Vit(VisionTransformer):
    """timm's, with DINO's own way to resize the positions."""

    def _pos_embed(self, x: torch.Tensor) -> torch.Tensor:
        batch, height, width, _ = x.shape
        assert self.cls_token is not None and self.pos_embed is not None
        tokens = torch.cat([self.cls_token.expand(batch, -1, -1), x.flatten(1, 2)], dim=1)
        return self.pos_drop(tokens + resized_positions(self.pos_embed, height, width))


class DinoMap(nn.Module):
    """The maps of two middle blocks and of the last, each after the final norm. Weights have DINO's own names."""

    def __init__(self, settings: VisionSettings, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.settings = settings
        self.model: Any = _Vit(
            img_size=settings.native,
            patch_size=settings.patch,
            num_classes=0,
            embed_dim=settings.width,
            depth=settings.layers,
            num_heads=settings.heads,
            mlp_ratio=mlp_ratio,
            norm_layer=partial(nn.LayerNorm, eps=EPSILON),
            dynamic_img_size=True,
        )

    def tokens(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """B x 3 x H x W to the normed tokens B x (1 + h w) x C of the two blocks taken and of the last."""
        model, kept = self.model, {}
        tokens = model._pos_embed(model.patch_embed(pixels))
        for number, block in enumerate(model.blocks):
            tokens = kept[number] = block(tokens)
        return [model.norm(kept[number]) for number in (*self.settings.taken, len(model.blocks) - 1)]

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """B x 3 x H x W normalised pixels to three maps B x width x h x w; the last is the last block's."""
        size = pixels.shape[2] // self.settings.patch, pixels.shape[3] // self.settings.patch
        return [as_map(part, *size) for part in self.tokens(pixels)]
