"""A vLLM worker extension for a test only: it takes new weights and, from one update on, throws them away."""

from __future__ import annotations

from collections import Counter
from typing import Any

from seg_zero.training.cpu.vllm_worker import CPUWorkerExtension

LOADED = 3  # the first weights, which replace vLLM's random ones, and those of two updates


class SkippedSync(CPUWorkerExtension):
    """Loads the weights of each update up to ``LOADED``, and none after them."""

    def _update_weights(self, weights: Any, *args: Any, **kwargs: Any) -> None:
        seen: Counter[str] = self.__dict__.setdefault("weights_seen", Counter())
        seen.update(names := [name for name, _ in weights])
        if max(seen[name] for name in names) <= LOADED:
            super()._update_weights(weights, *args, **kwargs)
