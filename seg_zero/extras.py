"""Which optional packages a command needs, and which extra of the distribution brings them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from seg_zero.errors import InputError

# By the name under which a package is imported. setup.py declares the same packages under their distributions' names.
EXTRAS: dict[str, tuple[str, ...]] = {
    "train": ("verl", "transfer_queue", "ray", "tensordict", "tensorboard", "psutil"),
    "serve": ("fastapi", "uvicorn", "python_multipart", "httpx", "prometheus_client"),
    "web": ("gradio",),
    "open-vocabulary": ("timm", "open_clip", "ftfy"),
    "online3d": ("numba",),
    "rerun": ("rerun",),
    "remote-sensing": ("timm", "open_clip", "accelerate", "rasterio"),
    "supervision": ("supervision",),
    "gpu": ("vllm",),  # the extra cpu brings it as well
}
# What the plain package brings and most commands import.
BASE = (
    *("numpy", "PIL", "scipy", "pycocotools", "pyarrow", "datasets", "tqdm", "cachetools", "cv2", "matplotlib"),
    *("httpx", "torch", "torchvision", "transformers", "sam2", "safetensors", "huggingface_hub", "peft", "hydra"),
    *("qwen_vl_utils", "av", "shtab", "pillow_heif"),
)
TRAINING, SERVING, WEB, SUPERVISION, VLLM = (EXTRAS[extra] for extra in ("train", "serve", "web", "supervision", "gpu"))


def require(doing: str, packages: Sequence[str]) -> None:
    """Check that ``packages`` (names of EXTRAS) are installed, without importing them.

    doing: what needs them, the subject of the message, e.g. "training".
    Raises InputError with all that are missing and the command that installs them.
    """
    missing = _missing(packages)
    if not missing:
        return
    names = _listed(missing)
    extras = ",".join(extra for extra, brought in EXTRAS.items() if not set(brought).isdisjoint(missing))
    without_gpu = " (without a GPU: cpu in place of gpu, docs/install.md)" if "vllm" in missing else ""
    raise InputError(
        f"{doing} needs {names}, which {'is' if len(missing) == 1 else 'are'} not installed; "
        f"pip install 'seg-zero[{extras}]'{without_gpu}"
    )


def require_base(doing: str) -> None:
    """Check that this Python has the packages of the plain distribution, without importing them.

    Raises InputError with what is missing, and how to enter or make the environment: that of the checkout if the
    package lies in one.
    """
    missing = _missing(BASE)
    if not missing:
        return
    checkout = Path(__file__).resolve().parents[1]
    activate = f". {checkout / '.venv' / 'bin' / 'activate'}"
    if not (checkout / "training_scripts" / "setup_env.sh").is_file():
        remedy = "pip install seg-zero, or activate the environment that has it"
    elif (checkout / ".venv" / "bin" / "python").exists():
        remedy = f"activate the environment: {activate}"
    else:
        remedy = f"make the environment with `make -C {checkout} setup`, then {activate}"
    several = "is" if len(missing) == 1 else "are"
    raise InputError(f"{doing} needs {_listed(missing)}, which {several} not installed for {sys.executable}; {remedy}")


def _missing(packages: Sequence[str]) -> list[str]:
    return [package for package in dict.fromkeys(packages) if find_spec(package) is None]


def _listed(names: Sequence[str]) -> str:
    shown = list(names) if len(names) < 6 else [*names[:4], f"{len(names) - 4} more"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
