"""Attention over a flat row of shared prefixes, for transformers' table of attention functions.

One call of PyTorch's scaled_dot_product_attention for each level of the tree: the roots are causal, and what continues
them attends to its path and to itself. No mask is as large as the square of the row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from seg_zero.training.engine.shared_prefix.layout import Layout, Level

NAME = "shared_prefix"


def register() -> None:
    """Let models have ``attn_implementation="shared_prefix"``. transformers builds no mask for it."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, shared_prefix_attention)


def shared_prefix_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    layout: Layout | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """query: (1, heads, tokens, head). key, value: (1, heads of keys, tokens, head). Returns (1, tokens, heads, head).

    Raises ValueError without a layout, which no mask or positions could replace, and for what a layout cannot express.
    """
    if layout is None:
        raise ValueError("attention with shared prefixes got no layout; pass layout=Layout(...) to the model")
    if attention_mask is not None:
        raise ValueError("attention with shared prefixes got a mask; its layout says what each token attends to")
    if query.shape[0] != 1 or query.shape[2] != layout.tokens:
        raise ValueError(f"the layout is of 1 row of {layout.tokens} tokens, the query of {tuple(query.shape)}")
    if sliding_window is not None and sliding_window < layout.tokens:
        raise ValueError(f"shared prefixes do not work with a sliding window ({sliding_window} tokens)")
    repeats = query.shape[1] // key.shape[1]
    roots: tuple[torch.Tensor, torch.Tensor] | None = None
    outputs = []
    for level in layout.levels:
        queries = _take(query, level)
        keys, values = (_repeat(_take(states, level), repeats) for states in (key, value))
        if roots is None:
            roots = keys, values
            found = scaled_dot_product_attention(
                queries, keys, values, is_causal=True, scale=scaling, dropout_p=dropout
            )
        else:
            before = roots if level.history is None else tuple(_repeat(_path(x, level), repeats) for x in (key, value))
            keys, values = (_after(past, own, level) for past, own in zip(before, (keys, values), strict=True))
            bias = level.bias(queries.dtype)
            found = scaled_dot_product_attention(
                queries, keys, values, attn_mask=bias, scale=scaling, dropout_p=dropout
            )
        outputs.append(found.transpose(1, 2).flatten(0, 1))  # (segments * length, heads, head)
    joined = torch.cat(outputs)
    return (joined if layout.order is None else joined.index_select(0, layout.order))[None], None


def _take(states: torch.Tensor, level: Level) -> torch.Tensor:
    """(1, heads, tokens, head) to (segments, heads, length, head)."""
    if level.places is None:
        cut = states[0, :, level.start : level.start + level.count * level.length]
    else:
        cut = states[0].index_select(1, level.places)
    return cut.unflatten(1, (level.count, level.length)).transpose(0, 1)


def _path(states: torch.Tensor, level: Level) -> torch.Tensor:
    """What comes before the children of each parent: (parents, heads, past, head)."""
    assert level.history is not None
    return states[0].index_select(1, level.history).unflatten(1, (len(level.children), level.past)).transpose(0, 1)


def _repeat(states: torch.Tensor, times: int) -> torch.Tensor:
    return states if times == 1 else states.repeat_interleave(times, dim=1)


def _after(past: torch.Tensor, own: torch.Tensor, level: Level) -> torch.Tensor:
    """(parents, heads, past, head) before the keys or values of their children: (segments, heads, past + length, head).

    By ``expand``, whose gradient is a sum in the accumulation type; indexing would add in the type of the states.
    """
    children = level.children
    if len(set(children)) == 1:
        each = children[0]
        spread = past[:, None].expand(-1, each, -1, -1, -1)
        return torch.cat([spread, own.unflatten(0, (len(children), each))], dim=3).flatten(0, 1)
    spread = torch.cat([one.expand(each, -1, -1, -1) for one, each in zip(past.split(1), children, strict=True)])
    return torch.cat([spread, own], dim=2)
