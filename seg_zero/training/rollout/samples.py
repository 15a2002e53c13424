"""Sampled answers, and their seeds: a seed depends on the sample alone, so a resumed run draws what it would have."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Sampled:
    """One answer of vLLM: its tokens, and the log-probability of each if they were asked for."""

    tokens: list[int]
    log_probs: list[float] | None


def sample_seed(seed: int, *numbers: int) -> int:
    """The sampling seed of one answer, 0 <= seed < 2**63; the same in every run with the same numbers.

    numbers: step, row, sample, and in a dialogue the round.
    """
    name = "/".join(map(str, (seed, *numbers))).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") >> 1


def group_seed(seed: int, step: int, row: int) -> int:
    """The seed of all answers to one question, below 2**62: vLLM gives answer i of a request seed + i, below 2**63."""
    return sample_seed(seed, step, row, 0) >> 1
