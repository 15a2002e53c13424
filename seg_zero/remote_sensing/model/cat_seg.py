"""CAT-Seg's aggregator (arXiv 2303.11797) as an option: Swin blocks over places, linear attention over texts.

Axes and guides are those of :mod:`seg_zero.remote_sensing.model.rs_fusion`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from seg_zero.errors import InputError
from seg_zero.remote_sensing.model.rs_fusion import attend
from seg_zero.remote_sensing.model.settings import CatSegSettings

_RATIO = 4


def linear_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
    """Attention with the kernel elu(x) + 1, in time linear in the tokens (arXiv 2006.16236). N x n x D each."""
    q, k, v = (part.unflatten(-1, (heads, -1)) for part in (query, key, value))
    q, k = F.elu(q) + 1, F.elu(k) + 1
    summed = torch.einsum("nmhd,nmhe->nhde", k, v)
    norm = torch.einsum("nlhd,nhd->nlh", q, k.sum(dim=1)) + 1e-6
    return (torch.einsum("nlhd,nhde->nlhe", q, summed) / norm[..., None]).flatten(2)


def _mlp(width: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, _RATIO * width), activation, nn.Linear(_RATIO * width, width))


class SwinBlock(nn.Module):
    """Attention within windows, every other block with windows shifted by half; the guide joins queries and keys."""

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k = nn.Linear(2 * width, width), nn.Linear(2 * width, width)
        self.v, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.mlp = _mlp(width, nn.GELU())

    def forward(self, x: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        """x, guide: N x h x w x D."""
        size = x.shape[1:3]
        window = min(self.window, *size)
        shift = self.shift if window == self.window and window < min(size) else 0
        normed = self.norm1(x)
        both = torch.cat([normed, guide], dim=-1)
        if shift:
            normed, both = (torch.roll(part, (-shift, -shift), (1, 2)) for part in (normed, both))
        values, guided = _windows(normed, window), _windows(both, window)
        q, k, v = self.q(guided), self.k(guided), self.v(values)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        mask = _shift_mask(size, window, shift, x) if shift else None
        if mask is not None:
            mask = mask.repeat(len(x), 1, 1)[:, None]
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        seen = _joined(self.out(seen), window, size)
        x = x + (torch.roll(seen, (shift, shift), (1, 2)) if shift else seen)
        return x + self.mlp(self.norm2(x))


def _windows(x: torch.Tensor, window: int) -> torch.Tensor:
    """N x h x w x D to (N windows) x window^2 x D."""
    if x.shape[1] % window or x.shape[2] % window:
        raise InputError(f"a map of {x.shape[1]}x{x.shape[2]} has no whole windows of {window}; change cat_seg.window")
    parts = x.unflatten(2, (-1, window)).unflatten(1, (-1, window)).transpose(2, 3)
    return parts.flatten(3, 4).flatten(0, 2)


def _joined(parts: torch.Tensor, window: int, size: torch.Size) -> torch.Tensor:
    rows, columns = size[0] // window, size[1] // window
    x = parts.unflatten(1, (window, window)).unflatten(0, (-1, rows, columns))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _shift_mask(size: torch.Size, window: int, shift: int, like: torch.Tensor) -> torch.Tensor:
    """windows x window^2 x window^2, True where two places of a shifted window are neighbours in the picture."""
    bands = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    region = torch.zeros(1, *size, 1, device=like.device)
    for row, rows in enumerate(bands):
        for column, columns in enumerate(bands):
            region[:, rows, columns] = 3 * row + column
    parts = _windows(region, window)[..., 0]
    return parts[:, :, None] == parts[:, None, :]


class ClassBlock(nn.Module):
    """Attention over the texts at each place of a smaller map; learned tokens fill up to ``pad_length`` texts."""

    def __init__(self, width: int, settings: CatSegSettings) -> None:
        super().__init__()
        self.heads, self.pooling, self.kind = settings.heads, settings.pooling, settings.attention
        self.pad_length = settings.pad_length
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v = nn.Linear(2 * width, width), nn.Linear(2 * width, width), nn.Linear(width, width)
        self.mlp = _mlp(width, nn.ReLU())
        if self.pad_length:
            self.pad_tokens = nn.Parameter(torch.zeros(1, 1, width))
            self.pad_guide = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, maps: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        """maps: B x D x T x h x w; guide: B x T x D."""
        batch, _, texts, height, width = maps.shape
        pooled = F.avg_pool2d(maps.transpose(1, 2).flatten(0, 1), self.pooling)
        small = pooled.shape[-2:]
        x = pooled.unflatten(0, (batch, texts)).permute(0, 3, 4, 1, 2).flatten(0, 2)
        if (more := max(0, self.pad_length - texts)) > 0:
            x = torch.cat([x, self.pad_tokens.expand(len(x), more, -1)], dim=1)
            guide = torch.cat([guide, self.pad_guide.expand(batch, more, -1)], dim=1)
        normed = self.norm1(x)
        guided = torch.cat([normed, guide.repeat_interleave(small.numel(), dim=0)], dim=-1)
        attention = linear_attention if self.kind == "linear" else attend
        x = x + attention(self.q(guided), self.k(guided), self.v(normed), self.heads)
        x = (x + self.mlp(self.norm2(x)))[:, :texts]
        back = x.unflatten(0, (batch, *small)).permute(0, 3, 4, 1, 2).flatten(0, 1)
        back = F.interpolate(back, size=(height, width), mode="bilinear", align_corners=True)
        return maps + back.unflatten(0, (batch, texts)).transpose(1, 2)


class CatSegLayer(nn.Module):
    """One layer: two Swin blocks over places, then texts."""

    def __init__(self, width: int, settings: CatSegSettings) -> None:
        super().__init__()
        self.guide_norm = nn.LayerNorm(width)
        self.first = SwinBlock(width, settings.heads, settings.window, 0)
        self.second = SwinBlock(width, settings.heads, settings.window, settings.window // 2)
        self.classes = ClassBlock(width, settings)

    def forward(self, maps: torch.Tensor, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """maps: B x D x T x h x w; image: B x D x h x w; text: B x T x D."""
        batch, _, texts, *_ = maps.shape
        guide = self.guide_norm(image.permute(0, 2, 3, 1)).repeat_interleave(texts, dim=0)
        x = maps.transpose(1, 2).flatten(0, 1).permute(0, 2, 3, 1)
        x = self.second(self.first(x, guide), guide).permute(0, 3, 1, 2)
        return self.classes(x.unflatten(0, (batch, texts)).transpose(1, 2), text)
