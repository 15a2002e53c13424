"""The FSDP2 engine for device "cpu"; verl imports it through :mod:`seg_zero.training.cpu.worker`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp import transformer_impl

from seg_zero.training.engine.engine import PolicyEngine

_ROWS = 1024  # tokens at a time, so that a large vocabulary needs no second copy of all logits


def log_probs_of_labels(logits: torch.Tensor, labels: torch.Tensor, inplace_backward: bool = True) -> torch.Tensor:
    """Log-probability of each label: its logit minus the logsumexp over the vocabulary.

    logits: (tokens, vocabulary). labels: (tokens,). Returns float32 (tokens,). ``inplace_backward`` is of verl's
    signature, for flash-attention, and has no meaning here.
    """
    logits = logits.float()
    chosen = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return chosen - torch.cat([part.logsumexp(-1) for part in logits.split(_ROWS)])


# Without flash-attention verl 0.9.1 calls logsumexp once for each token, which takes 10 to 30 % of a pass over a small
# model. Can go when its logprobs_from_logits works on many tokens at a time.
transformer_impl.logprobs_from_logits = log_probs_of_labels


@EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cpu")
class CPUEngine(PolicyEngine):
    """The engine without verl's offload of the reference model into pinned memory.

    verl 0.9.1 wraps every forward-only model in ``CPUOffloadPolicy(pin_memory=True)``; pinning needs a
    CUDA driver, and the model is in main memory already. Can go when verl offers ``pin_memory=False``.
    """

    def _build_fsdp_module(self, module: Any) -> Any:
        configured = self.engine_config
        self.engine_config = replace(configured, forward_only=False)
        try:
            return super()._build_fsdp_module(module)
        finally:
            self.engine_config = configured
