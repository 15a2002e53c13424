"""Where models run and in which precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seg_zero.errors import InputError

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


def choose_device(device: str | None = None) -> str:
    """The device named, or the best there is: CUDA, else Apple's MPS, else the CPU.

    Raises InputError for a device that torch does not know or that this machine lacks.
    """
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device is None:
        return "cuda" if cuda else "mps" if mps else "cpu"
    count = torch.cuda.device_count() if cuda else 0
    there = ", ".join([*(f"cuda:{i}" for i in range(count)), *(["mps"] if mps else []), "cpu"])
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise InputError(f"device {str(device)!r} is unknown; this machine has {there}") from None
    usable = {"cuda": (wanted.index or 0) < count, "mps": mps, "cpu": True}
    if not usable.get(wanted.type, False):
        raise InputError(f"device {str(device)!r} is not there; this machine has {there}")
    return str(wanted)


def wait_for(device: str | torch.device) -> None:
    """Return when the device has computed all it was asked for: before a clock is read, since GPUs lag behind calls."""
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()


def choose_dtype(dtype: str | torch.dtype | None, device: str) -> torch.dtype:
    """The dtype named, or the one that suits the device: bfloat16 on CUDA, float32 elsewhere.

    Raises InputError for a dtype other than :data:`DTYPES`.
    """
    import torch

    if dtype is None:
        return torch.bfloat16 if device.startswith("cuda") else torch.float32
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise InputError(f"dtype {name!r} is unknown; choose one of {', '.join(DTYPES)}")
    return getattr(torch, name)
