"""Worker extension for vLLM on CPU: keeps weights where an update can reach them."""

from __future__ import annotations

from typing import Any

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

from seg_zero.training.cpu.weight_socket import of_this_run


class CPUWorkerExtension(vLLMColocateWorkerExtension):
    """verl's extension, with vLLM's packing of linear weights into oneDNN switched off.

    vLLM 0.24.0 packs each linear layer at load and leaves an empty tensor behind, so that the weights
    of the next step have nowhere to go. Can go when vLLM repacks on a weight update.
    """

    def __new__(cls, **kwargs: Any) -> CPUWorkerExtension:
        from vllm import _custom_ops

        _custom_ops._supports_onednn = False  # read when the model is loaded, which comes later
        return super().__new__(cls, **kwargs)

    def _get_zmq_handle(self) -> str:
        return of_this_run(super()._get_zmq_handle())
