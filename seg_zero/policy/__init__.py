"""Policies: images and questions in, text out. Run by transformers, by vLLM, or by a server elsewhere."""

from seg_zero.policy.base import GREEDY, MAX_NEW_TOKENS, Policy, Reply, Request, Sampling
from seg_zero.policy.transformers_policy import TransformersPolicy
from seg_zero.policy.vllm_policy import VllmPolicy

__all__ = [
    "GREEDY",
    "MAX_NEW_TOKENS",
    "Policy",
    "Reply",
    "Request",
    "Sampling",
    "TransformersPolicy",
    "VllmPolicy",
]
