"""RS-Fusion: layers that refine the cost embedding, first over places within each text, then over texts at each place.

Maps are B x D x T x h x w; D is ``hidden``. The guides are B x D x h x w of the picture and T x D of the texts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

_RATIO = 3  # width of the gated MLP
_KERNEL = 7


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
    """Softmax attention of N x n x D queries over N x m x D keys and values, scaled by the root of a head's width."""
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class GatedMlp(nn.Module):
    """Linear(ReLU6(Linear(x)) * Linear(x)), N x n x D."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.value = nn.Linear(width, _RATIO * width), nn.Linear(width, _RATIO * width)
        self.out = nn.Linear(_RATIO * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(F.relu6(self.gate(x)) * self.value(x))


class SpatialLayer(nn.Module):
    """Attention within the map of each text, guided by the picture; keys and values at half the resolution."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k = nn.Linear(2 * width, width), nn.Linear(2 * width, width)
        self.v, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.reduce_k, self.norm_k = nn.Conv2d(2 * width, 2 * width, 2, 2), nn.LayerNorm(2 * width)
        self.reduce_v, self.norm_v = nn.Conv2d(width, width, 2, 2), nn.LayerNorm(width)
        self.mlp = GatedMlp(width)
        self.depthwise = nn.Conv2d(width, width, _KERNEL, padding=_KERNEL // 2, groups=width)

    def forward(self, maps: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        """maps: N x D x h x w; guide: N x D x h x w."""
        size = maps.shape[-2:]
        x = maps.flatten(2).transpose(1, 2)
        normed = self.norm1(x)
        guided = torch.cat([normed, guide.flatten(2).transpose(1, 2)], dim=-1)
        key = self.k(self.norm_k(_tokens(self.reduce_k(_map(guided, size)))))
        value = self.v(self.norm_v(_tokens(self.reduce_v(_map(normed, size)))))
        x = x + self.out(attend(self.q(guided), key, value, self.heads))
        return _map(x, size) + self.depthwise(_map(self.mlp(self.norm2(x)), size))


class ClassLayer(nn.Module):
    """Attention over the texts at each place of the map at half the resolution. Texts have no order."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k = nn.Linear(2 * width, width), nn.Linear(2 * width, width)
        self.v, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.mlp = GatedMlp(width)

    def forward(self, maps: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        """maps: B x D x T x h x w; guide: B x T x D."""
        batch, _, texts, height, width = maps.shape
        pooled = F.avg_pool2d(maps.transpose(1, 2).flatten(0, 1), 2)
        small = pooled.shape[-2:]
        # B T D h w -> (B h w) T D
        x = pooled.unflatten(0, (batch, texts)).permute(0, 3, 4, 1, 2).flatten(0, 2)
        normed = self.norm1(x)
        guided = torch.cat([normed, guide.repeat_interleave(small.numel(), dim=0)], dim=-1)
        x = x + self.out(attend(self.q(guided), self.k(guided), self.v(normed), self.heads))
        x = x + F.relu6(self.mlp(self.norm2(x)))
        back = x.unflatten(0, (batch, *small)).permute(0, 3, 4, 1, 2).flatten(0, 1)
        back = F.interpolate(back, size=(height, width), mode="bilinear", align_corners=True)
        return maps + back.unflatten(0, (batch, texts)).transpose(1, 2)


class RsFusionLayer(nn.Module):
    """One layer: places, then texts."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.spatial, self.classes = SpatialLayer(width, heads), ClassLayer(width, heads)

    def forward(self, maps: torch.Tensor, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """maps: B x D x T x h x w; image: B x D x h x w; text: B x T x D."""
        batch, _, texts, *_ = maps.shape
        flat = self.spatial(maps.transpose(1, 2).flatten(0, 1), image.repeat_interleave(texts, dim=0))
        return self.classes(flat.unflatten(0, (batch, texts)).transpose(1, 2), text)


def _tokens(maps: torch.Tensor) -> torch.Tensor:
    return maps.flatten(2).transpose(1, 2)


def _map(tokens: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return tokens.transpose(1, 2).unflatten(2, (size[0], size[1]))
