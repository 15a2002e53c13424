"""Writes checkpoints as verl lays them out, from a model folder: real FSDP2 and FSDP1 in processes of their own."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import socket
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from transformers import AutoModelForImageTextToText
from transformers.utils import logging

# How a model can be sharded, by name: FSDP version, processes of each mesh dimension (None: no mesh).
LAYOUTS: dict[str, tuple[int, tuple[int, ...], bool]] = {
    "FSDP2, one worker": (2, (1,), True),
    "FSDP2, three workers": (2, (3,), True),
    "FSDP2, replicas": (2, (2, 2), True),
    "FSDP1, one worker": (1, (1,), True),
    "FSDP1, two workers": (1, (2,), True),
    "FSDP1, replicas": (1, (2, 2), True),
    "FSDP1, no mesh": (1, (2,), False),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _fsdp2(model: Any, mesh: Any) -> Any:
    from torch.distributed.fsdp import fully_shard

    for layer in model.model.language_model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model.state_dict()


def _fsdp1(model: Any, mesh: Any, shape: tuple[int, ...]) -> Any:
    from torch.distributed.fsdp import FullyShardedDataParallel, ShardedStateDictConfig, ShardingStrategy, StateDictType
    from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

    layer = type(model.model.language_model.layers[0])
    strategy = ShardingStrategy.FULL_SHARD if len(shape) == 1 else ShardingStrategy.HYBRID_SHARD
    wrapped = FullyShardedDataParallel(
        model,
        device_id=torch.device("cpu"),
        device_mesh=mesh,
        sharding_strategy=strategy,
        auto_wrap_policy=partial(transformer_auto_wrap_policy, transformer_layer_cls={layer}),
    )
    sharded = ShardedStateDictConfig(offload_to_cpu=False)
    with FullyShardedDataParallel.state_dict_type(wrapped, StateDictType.SHARDED_STATE_DICT, sharded):
        return wrapped.state_dict()


@dataclass(frozen=True)
class Job:
    """A checkpoint to write: of the model in folder ``model``, as ``step`` (a ``global_step_N`` folder)."""

    model: Path
    step: Path
    layout: str = "FSDP2, one worker"
    dtype: torch.dtype = torch.float32

    @property
    def workers(self) -> int:
        return torch.Size(LAYOUTS[self.layout][1]).numel()


def _save_shards(rank: int, jobs: list[tuple[Job, int]]) -> None:
    """What verl's checkpoint manager writes in worker ``rank``, for every job that has such a worker."""
    from torch.distributed.device_mesh import init_device_mesh

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    for job, port in jobs:
        version, shape, with_mesh = LAYOUTS[job.layout]
        if rank >= job.workers:
            continue
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        torch.distributed.init_process_group("gloo", rank=rank, world_size=job.workers)
        names = ("ddp", "fsdp")[-len(shape) :]
        mesh = init_device_mesh("cpu", shape, mesh_dim_names=names) if with_mesh else None
        model = AutoModelForImageTextToText.from_pretrained(job.model, dtype=job.dtype)
        state = _fsdp2(model, mesh) if version == 2 else _fsdp1(model, mesh, shape)
        torch.save(state, job.step / "actor" / f"model_world_size_{job.workers}_rank_{rank}.pt")
        torch.distributed.destroy_process_group()


def copy_side_files(model: Path, actor: Path, workers: int = 1, version: int = 2) -> None:
    """All of a model folder but its weights, where verl puts them, and verl's note of the layout."""
    (actor / "huggingface").mkdir(parents=True)
    for path in model.iterdir():
        if path.is_file() and path.suffix != ".safetensors" and path.name != "README.md":
            shutil.copy(path, actor / "huggingface" / path.name)
    (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": version, "world_size": workers}))


def save_checkpoints(jobs: Sequence[Job]) -> None:
    """Write all checkpoints, with one set of processes."""
    for job in jobs:
        copy_side_files(job.model, job.step / "actor", job.workers, LAYOUTS[job.layout][0])
    # A server that has imported this file once forks the workers: much faster than importing it in each.
    multiprocessing.set_forkserver_preload(["sharded"])
    torch.multiprocessing.start_processes(
        _save_shards,
        args=([(job, free_port()) for job in jobs],),
        nprocs=max(job.workers for job in jobs),
        start_method="forkserver",
    )
