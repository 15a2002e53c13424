"""Environment variables that a training run needs; the launcher sets them, not the user."""

from __future__ import annotations

import os
import re
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from omegaconf import DictConfig

from seg_zero.files import RAY_SOCKETS, short_temporary_folder

RUN = "SEG_ZERO_RUN"  # an identifier of the run, in all its processes
VISIBLE_GPUS = "SEG_ZERO_VISIBLE_GPUS"  # Ray empties CUDA_VISIBLE_DEVICES in actors without a GPU

_CPU = {
    "VERL_PLATFORM": "cpu",
    "TORCHDYNAMO_DISABLE": "1",  # compilation costs minutes of start-up and gains nothing at this size
    "OMP_NUM_THREADS": "1",  # a dozen processes share the cores; training workers raise it for themselves
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait slow a busy machine down tenfold
    "GOMP_SPINCOUNT": "1000",  # a few microseconds, which spares small operations the wake-up of a thread
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # automatic binding wants one NUMA node per tensor-parallel worker
}


# What workers on other machines get of the launcher's environment, by the beginning of the name. Theirs comes from the
# shell in which `ray start` ran.
_FOR_WORKERS = (
    *("NCCL_", "GLOO_", "UCX_", "FI_", "OMP_", "TORCH", "PYTORCH_", "VLLM_", "VERL_", "HF_", "TRANSFORMERS_"),
    *("TOKENIZERS_", "WANDB_", "SEG_ZERO_", "TENSORBOARD_", "HYDRA_", "PYTHONPATH", "PYTHONUNBUFFERED"),
    "PYTHONPYCACHEPREFIX",
)
# Ray and verl write these variables to logs, so no secret may be among them; an address belongs to one machine.
_NOT_FOR_WORKERS = re.compile(r".*(TOKEN|KEY|SECRET|PASSWORD|CREDENTIALS)|VLLM_HOST_IP")


def joins_cluster(config: DictConfig) -> bool:
    """Whether the run joins an existing Ray cluster, by a configuration after :func:`cluster.choose`."""
    return config.ray_kwargs.ray_init.address not in (None, "local")


def _has_ray_token(environment: Mapping[str, str]) -> bool:
    """Whether this user has a token for Ray clusters, in any of the places where Ray looks."""
    named = "RAY_AUTH_TOKEN" in environment or "RAY_AUTH_TOKEN_PATH" in environment
    return named or (Path.home() / ".ray" / "auth_token").is_file()


def worker_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of ``environment`` that the workers of an existing cluster need, without secrets."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_FOR_WORKERS) and not _NOT_FOR_WORKERS.fullmatch(name)
    }


def training_environment(config: DictConfig, output: Path, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """A copy of ``base`` with what verl, vLLM and Ray read for this run."""
    environment = dict(base)
    environment.update(
        PYTHONUNBUFFERED="1",
        RAY_USAGE_STATS_ENABLED="0",
        HYDRA_FULL_ERROR="1",
        VERL_FILE_LOGGER_PATH=str(output / "verl_metrics.jsonl"),
        TENSORBOARD_DIR=str(output / "tensorboard"),
    )
    # Ray makes its workers 15 steps nicer than the launcher, so that beside any other job they stand still.
    environment.setdefault("RAY_worker_niceness", "0")
    short = short_temporary_folder(RAY_SOCKETS)
    if str(short) != tempfile.gettempdir():
        environment["TMPDIR"] = environment["RAY_TMPDIR"] = str(short)
    # Reward terms of the user's own are imported from the working directory.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), environment.get("PYTHONPATH")]))
    if Path(config.actor_rollout_ref.model.path).is_dir():
        environment.setdefault("HF_HUB_OFFLINE", "1")  # a local model needs no network, and no wait for one
    if config.trainer.device == "cuda":
        gpus = base.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(config.trainer.n_gpus_per_node)))
        environment[VISIBLE_GPUS] = gpus
    if joins_cluster(config) and _has_ray_token(base):
        # `ray start` requires a token where one exists, but a process that joins by address sends it only in this mode.
        environment.setdefault("RAY_AUTH_MODE", "token")
    if config.trainer.device == "cpu":
        environment.update(_CPU)
        environment[RUN] = uuid4().hex[:12]
        if config.engine.group_rollouts and config.actor_rollout_ref.rollout.tensor_model_parallel_size == 1:
            environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # else vLLM starts a process for a single worker too
        # Without the byte-code cache a dozen processes compile the same packages: 100 s more.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if not os.access(sysconfig.get_paths()["purelib"], os.W_OK):
            environment.setdefault("PYTHONPYCACHEPREFIX", str(Path.home() / ".cache" / "seg_zero" / "pycache"))
        if not environment.get("CUDA_VISIBLE_DEVICES", "0"):
            del environment["CUDA_VISIBLE_DEVICES"]  # an empty list contradicts Ray's logical GPUs
    return environment
