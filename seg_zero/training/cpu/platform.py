"""verl's platform interface for machines without an accelerator.

Upstream verl 0.9.1 ships platforms for NVIDIA, AMD and Ascend only. This file can go when it ships a
CPU platform.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry


def _memory_bytes() -> tuple[int, int]:
    """Free and total memory of the machine, in bytes."""
    page = os.sysconf("SC_PAGE_SIZE")
    return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page


def _device_module() -> ModuleType:
    """``torch.cpu`` plus the functions of ``torch.cuda`` that verl calls and ``torch.cpu`` lacks."""
    module = ModuleType("torch_cpu_as_accelerator")
    module.__dict__.update({name: getattr(torch.cpu, name) for name in torch.cpu.__all__})
    zero = ("max_memory_allocated", "max_memory_reserved", "memory_allocated", "memory_reserved")
    nothing = ("empty_cache", "reset_peak_memory_stats", "ipc_collect", "set_device", "manual_seed", "manual_seed_all")
    module.__dict__.update({name: lambda *_, **__: 0 for name in zero})
    module.__dict__.update({name: lambda *_, **__: None for name in nothing})
    module.__dict__.update(
        mem_get_info=lambda *_: _memory_bytes(),
        get_device_name=lambda *_: "cpu",
        get_device_properties=lambda *_: SimpleNamespace(name="cpu", total_memory=_memory_bytes()[1]),
        # The checkpoint manager saves the device's state only if there is an accelerator but restores
        # it whenever it finds the function missing; the CPU generator is saved by itself.
        get_rng_state=lambda *_: torch.get_rng_state(),
        set_rng_state=lambda state, *_: torch.set_rng_state(state),
    )
    return module


class PlatformCPU(PlatformBase):
    """Workers are processes; their number is the number of logical "GPU" resources given to Ray."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _device_module()

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return False  # never chosen by auto-detection, only by VERL_PLATFORM=cpu

    def current_device(self) -> Any:
        return torch.device("cpu")  # verl passes it to Tensor.to, where an index would mean a GPU

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        return None

    def synchronize(self, device_index: int | None = None) -> None:
        return None

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        return None

    def empty_cache(self) -> None:
        return None

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        return None

    def profiler_stop(self) -> None:
        return None

    def ray_resource_name(self) -> str:
        return "GPU"  # verl's resource pool counts only GPU and NPU; the launcher gives Ray logical ones

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False  # weights go to vLLM through POSIX shared memory

    def cudart(self) -> Any:
        return None


def register() -> None:
    PlatformRegistry.register(platform="cpu")(PlatformCPU)
