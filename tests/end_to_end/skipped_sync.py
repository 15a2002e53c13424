"""A vLLM worker extension for a test only: it takes new weights after every update and throws them away."""

from __future__ import annotations

from typing import Any

from seg_zero.training.cpu.vllm_worker import CPUWorkerExtension


class SkippedSync(CPUWorkerExtension):
    """Loads the first weights, which replace vLLM's random ones, and none after them."""

    def _update_weights(self, weights: Any, *args: Any, **kwargs: Any) -> None:
        seen = self.__dict__.setdefault("weights_seen", set())
        names = [name for name, _ in weights]
        if seen.isdisjoint(names):
            super()._update_weights(weights, *args, **kwargs)
        seen.update(names)
