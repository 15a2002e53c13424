"""Loading a policy by name and engine: the one place that chooses between transformers and vLLM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from seg_zero.errors import InputError
from seg_zero.hub import check_here
from seg_zero.policy.base import MAX_NEW_TOKENS, Policy
from seg_zero.policy.model_files import default_spec, resolve_model
from seg_zero.policy.transformers_policy import TransformersPolicy
from seg_zero.policy.vllm_policy import VllmPolicy
from seg_zero.prompting import PromptSpec

if TYPE_CHECKING:
    import torch

ENGINES = ("transformers", "vllm")


def load_policy(
    name: str | Path | None = None,
    engine: str = "transformers",
    *,
    spec: PromptSpec | None = None,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    batch_size: int = 8,
    tensor_parallel_size: int = 1,
) -> Policy:
    """Load the policy ``name`` (folder, hub id, or None for the embedded one) into ``engine``, one of ENGINES.

    spec: prompt settings, None for the policy's own. ``device``, ``dtype`` and ``batch_size`` are for transformers,
    since vLLM chooses these itself; ``tensor_parallel_size`` is for vLLM.
    Raises InputError for an unknown engine and for a policy that cannot be loaded.
    """
    if engine not in ENGINES:
        raise InputError(f"engine {engine!r} is not known; choose one of {', '.join(ENGINES)}")
    model = resolve_model(name)
    check_here("policy", model)
    spec = spec or default_spec(model)
    if engine == "vllm":
        return VllmPolicy.from_pretrained(
            model, spec=spec, max_new_tokens=max_new_tokens, tensor_parallel_size=tensor_parallel_size
        )
    return TransformersPolicy.from_pretrained(
        model, device=device, dtype=dtype, spec=spec, max_new_tokens=max_new_tokens, batch_size=batch_size
    )


def quiet_transformers() -> None:
    """Keep transformers' loading bars and warnings out of a command's output."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
