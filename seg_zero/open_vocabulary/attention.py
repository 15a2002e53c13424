"""Self-correlating recursive attention (SCRA): the last block's attention, made to look at its own output.

RADSeg, arXiv 2511.19704. Ordinary attention mixes tokens of different things in its last block; here each token
attends to the tokens whose attention output points the same way.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

SCORES_AT_ONCE = 1 << 24  # attention weights in memory, all heads and images together: 64 MB


class SelfCorrelatingAttention(nn.Module):
    """Replaces a timm ``Attention`` and uses its own projections, so the state dict stays as it was.

    For tokens x (B x N x D), prefix tokens included, with H heads of d channels:

    1. q, k, v = the original projections of x
    2. o = proj(softmax(q k' / sqrt(d)) v), split into heads again; z = o / |o| per head and token
    3. A = softmax over the columns of ``scaling`` * z z', without the negative entries
    4. the result is proj(A v), with the v of step 1

    Rows of step 3 are computed some at a time: memory grows with N, not with its square.
    """

    def __init__(self, attention: Any, scaling: float = 10.0) -> None:
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.num_heads = attention.num_heads
        self.scaling = scaling

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None, **_: object) -> torch.Tensor:
        if attn_mask is not None:
            raise ValueError("self-correlating attention takes no mask; give images of one size")
        q, k, v = self._heads(self.qkv(x), 3)
        recalled = self.proj(_merged(F.scaled_dot_product_attention(q, k, v)))
        (z,) = F.normalize(self._heads(recalled, 1), dim=-1)
        batch, heads, tokens, _d = z.shape
        step = max(1, SCORES_AT_ONCE // (batch * heads * tokens))
        mixed = torch.empty_like(v)
        for start in range(0, tokens, step):
            scores = (z[:, :, start : start + step] * self.scaling) @ z.transpose(-1, -2)
            scores.masked_fill_(scores < 0, float("-inf"))
            mixed[:, :, start : start + step] = scores.softmax(dim=-1) @ v
        return self.proj(_merged(mixed))

    def _heads(self, x: torch.Tensor, parts: int) -> torch.Tensor:
        """B x N x (parts*D) as parts x B x H x N x d."""
        batch, tokens, width = x.shape
        heads = x.reshape(batch, tokens, parts, self.num_heads, width // parts // self.num_heads)
        return heads.permute(2, 0, 3, 1, 4)


def _merged(x: torch.Tensor) -> torch.Tensor:
    """B x H x N x d as B x N x D."""
    return x.transpose(1, 2).flatten(2)


def use_self_correlation(backbone: nn.Module, scaling: float = 10.0) -> None:
    """Replace the attention of the last of ``backbone.blocks``; its norm, LayerScale, residual and MLP stay.

    Called again, it changes the scaling.
    """
    last: Any = backbone.get_submodule("blocks")[-1]  # type: ignore[index]
    last.attn = SelfCorrelatingAttention(last.attn, scaling)
