"""A model of verl's that computes a flat row of shared prefixes, and logits where answers are predicted."""

from __future__ import annotations

import types
from typing import Any

import torch

from seg_zero.training.engine.shared_prefix import attention


def share_prefixes(module: Any) -> None:
    """Let a model for image and text take ``layout`` and ``logits_at``, and nothing else from then on.

    module: a transformers model, before it is sharded or gets adapters. Only the language model's attention changes;
    the vision tower keeps its own.
    """
    attention.register()
    module.set_attn_implementation({"text_config": attention.NAME})
    module.forward = types.MethodType(_forward, module)


def _forward(self: Any, input_ids: torch.Tensor, logits_at: torch.Tensor, **kwargs: Any) -> Any:
    """input_ids: (1, tokens). logits_at: (predicted,) places in the row. Returns logits of (predicted, vocabulary)."""
    from transformers.modeling_outputs import CausalLMOutputWithPast

    hidden = self.model(input_ids=input_ids, **kwargs)[0]
    # FSDP2 finds the tensors of its backward pass in a known kind of output only.
    return CausalLMOutputWithPast(logits=self.lm_head(hidden[0].index_select(0, logits_at)))
