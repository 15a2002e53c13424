"""Which optional packages a command needs, and which extra of the distribution brings them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from seg_zero.errors import InputError

# By the name under which a package is imported. setup.py declares the same packages under their distributions' names.
EXTRAS: dict[str, tuple[str, ...]] = {
    "train": ("verl", "transfer_queue", "ray", "tensordict", "tensorboard", "psutil"),
    "serve": ("fastapi", "uvicorn", "python_multipart", "httpx", "prometheus_client"),
    "web": ("gradio",),
    "supervision": ("supervision",),
    "gpu": ("vllm",),  # the extra cpu brings it as well
}
TRAINING, SERVING, WEB, SUPERVISION, VLLM = (EXTRAS[extra] for extra in ("train", "serve", "web", "supervision", "gpu"))


def require(doing: str, packages: Sequence[str]) -> None:
    """Check that ``packages`` (names of EXTRAS) are installed, without importing them.

    doing: what needs them, the subject of the message, e.g. "training".
    Raises InputError with all that are missing and the command that installs them.
    """
    missing = [package for package in dict.fromkeys(packages) if find_spec(package) is None]
    if not missing:
        return
    names = " and ".join(filter(None, [", ".join(missing[:-1]), missing[-1]]))
    extras = ",".join(extra for extra, brought in EXTRAS.items() if not set(brought).isdisjoint(missing))
    without_gpu = " (without a GPU: cpu in place of gpu, docs/install.md)" if "vllm" in missing else ""
    raise InputError(
        f"{doing} needs {names}, which {'is' if len(missing) == 1 else 'are'} not installed; "
        f"pip install 'seg-zero[{extras}]'{without_gpu}"
    )
