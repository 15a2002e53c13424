"""The FSDP2 engine for device "cpu"; verl imports it through :mod:`seg_zero.training.cpu_worker`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from verl.workers.engine.base import EngineRegistry

from seg_zero.training.engine import PolicyEngine


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
