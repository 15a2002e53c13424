"""Reads the shards of a training checkpoint, tensor by tensor, without running code from them.

verl saves one file per worker: FSDP2 and FSDP1 on a device mesh hold DTensors, FSDP1 of one worker holds plain
tensors, FSDP1 without a mesh holds ShardedTensors. Files are memory-mapped, so an open checkpoint takes
no private memory; only loaded tensors do.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# Importing it also registers distributed tensors, which the shards hold, as safe to load.
from torch.distributed.tensor import DTensor, Shard

from seg_zero.errors import InputError
from seg_zero.files import read_json


@dataclass(frozen=True)
class Checkpoint:
    """A checked checkpoint: its shards in rank order and the folder of configuration and processor files."""

    shards: tuple[Path, ...]
    files: Path

    @property
    def actor(self) -> Path:
        return self.files.parent


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that is read, joined and cast when ``load`` is called. ``read`` does it, to the dtype it is given."""

    shape: torch.Size
    dtype: torch.dtype
    read: Callable[[torch.dtype], torch.Tensor]

    def load(self) -> torch.Tensor:
        return self.read(self.dtype)

    @property
    def nbytes(self) -> int:
        return self.shape.numel() * self.dtype.itemsize

    def to(self, dtype: torch.dtype) -> LazyTensor:
        """The same in another dtype; integers stay as they are."""
        return LazyTensor(self.shape, dtype if self.dtype.is_floating_point else self.dtype, self.read)


def find_checkpoint(folder: Path) -> Checkpoint:
    """Accepts an ``actor`` folder or the ``global_step_N`` folder around it.

    Raises InputError if it is neither, or if a shard or the configuration is missing or empty.
    """
    if not folder.is_dir():
        raise InputError(f"checkpoint folder {folder} does not exist; give .../checkpoints/global_step_N")
    actor = folder if (folder / "fsdp_config.json").is_file() else folder / "actor"
    layout = actor / "fsdp_config.json"
    beside = next((place for place in (folder, actor) if any(place.glob("model_world_size_*.pt"))), None)
    if not layout.is_file() and beside is not None:
        raise InputError(
            f"{beside} holds shards but no fsdp_config.json, which says how many workers wrote them; copy it from the "
            'checkpoint, or write {"world_size": N} into it, N being the number in model_world_size_N_rank_0.pt'
        )
    if not layout.is_file():
        steps = sorted(path.name for path in folder.glob("global_step_*"))
        remedy = f"give one of {', '.join(steps)}" if steps else "give .../global_step_N or .../global_step_N/actor"
        raise InputError(f"{folder} is not a training checkpoint (no fsdp_config.json); {remedy}")
    try:
        workers = int(read_json(layout)["world_size"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{layout} cannot be read ({error!r}); take another checkpoint") from error
    shards = tuple(actor / f"model_world_size_{workers}_rank_{rank}.pt" for rank in range(workers))
    missing = [path.name for path in shards if not path.is_file() or path.stat().st_size == 0]
    if missing or not shards:
        raise InputError(f"{actor} lacks {', '.join(missing)} of {workers} shards; copy them there")
    files = actor / "huggingface"
    if not (files / "config.json").is_file():
        raise InputError(f"{files} has no config.json; copy the checkpoint's huggingface folder")
    return Checkpoint(shards, files)


class ShardedParts(torch.Tensor):
    """Stands in for torch's ShardedTensor, which cannot be loaded outside of the processes that wrote it.

    ``parts``: the pieces this worker held; each has ``tensor`` and ``metadata.shard_offsets``.
    """

    parts: list[Any]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise NotImplementedError(f"{func} of a tensor that is in parts")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.parts = state[0]


class _Record:
    """Takes whatever attributes the file gives it."""


class _Ignored:
    """Takes the place of what a ShardedTensor says about processes, devices and memory layout."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def _ignored_class(*_: Any) -> type[_Ignored]:
    return _Ignored


_SHARD = "torch.distributed._shard."
# Every name in a file of ShardedTensors, mapped to a class that runs nothing; any other name is refused.
_SAFE: list[Any] = [
    (ShardedParts, _SHARD + "sharded_tensor.api.ShardedTensor"),
    (_Record, _SHARD + "sharded_tensor.shard.Shard"),
    (_Record, _SHARD + "metadata.ShardMetadata"),
    (_Ignored, _SHARD + "sharded_tensor.metadata.ShardedTensorMetadata"),
    (_Ignored, _SHARD + "sharded_tensor.metadata.TensorProperties"),
    (_Ignored, _SHARD + "sharded_tensor.metadata.MEM_FORMAT_ENCODING"),
    (_Ignored, _SHARD + "sharding_spec.chunk_sharding_spec.ChunkShardingSpec"),
    (_Ignored, "torch.distributed.remote_device._remote_device"),
    (_ignored_class, "builtins.getattr"),  # for nested classes; nothing is looked up here
]


def open_shard(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of one worker, memory-mapped. Raises InputError if the file is not a shard of tensors."""
    # It warns that the mesh of the training processes does not exist here; nothing here needs it.
    logging.getLogger("torch.distributed.device_mesh").setLevel(logging.ERROR)
    try:
        with torch.serialization.safe_globals(_SAFE), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shard = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"shard {path} cannot be read ({reason}); copy it again or take another checkpoint") from error
    if not isinstance(shard, dict) or not all(isinstance(value, torch.Tensor) for value in shard.values()):
        raise InputError(f"shard {path} does not hold named tensors; take the model_*.pt files of verl")
    return shard


def open_shards(checkpoint: Checkpoint) -> list[dict[str, torch.Tensor]]:
    """All workers' tensors in rank order. Raises InputError if they do not have the same names."""
    shards = [open_shard(path) for path in checkpoint.shards]
    for path, shard in zip(checkpoint.shards, shards, strict=True):
        if set(shard) != set(shards[0]):
            raise InputError(
                f"shard {path} and {checkpoint.shards[0].name} hold different tensors; do not mix checkpoints"
            )
    return shards


def merge_tensor(name: str, parts: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """One whole tensor of ``dtype`` from its parts of all workers, in rank order.

    Sharded parts are joined along their dimension (its last mesh dimension, when data-parallel replicas
    come first); replicated parts must be equal. A tensor of one part and the same dtype stays in its file.
    """
    first = parts[0]
    if isinstance(first, ShardedParts):
        return _merge_offsets(name, parts, dtype)
    if not isinstance(first, DTensor):
        if any(not torch.equal(first, other) for other in parts[1:]):
            raise InputError(f"tensor {name} is not sharded and differs between workers; the checkpoint is damaged")
        return first.to(dtype)
    *outer, placement = first.placements
    if any(not other.is_replicate() for other in outer) or not (
        placement.is_replicate() or type(placement) is Shard  # not the interleaved shards of tensor parallelism
    ):
        raise InputError(
            f"tensor {name} has placements {first.placements}, which are not supported; "
            "train without tensor parallelism"
        )
    local = [part.to_local() for part in parts[: first.device_mesh.mesh.shape[-1]]]  # type: ignore[attr-defined]
    if placement.is_replicate() or len(local) == 1:
        return local[0].to(dtype)
    dim: int = placement.dim  # type: ignore[attr-defined]
    lengths = [piece.shape[dim] for piece in local]
    if sum(lengths) != first.shape[dim]:
        raise InputError(f"tensor {name} has {sum(lengths)} rows, not {first.shape[dim]}; shards do not match")
    # Copying casts on the way: no second whole tensor in the dtype of training.
    merged = torch.empty(first.shape, dtype=dtype)
    for place, piece in zip(merged.split(lengths, dim), local, strict=True):
        place.copy_(piece)
    return merged


def _merge_offsets(name: str, parts: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """The whole of ShardedTensors; pieces of data-parallel replicas have the same offsets and count once."""
    pieces = {tuple(piece.metadata.shard_offsets): piece.tensor for part in parts for piece in part.parts}  # type: ignore[attr-defined]
    merged = torch.empty(parts[0].shape, dtype=dtype)
    if sum(piece.numel() for piece in pieces.values()) != merged.numel():
        raise InputError(f"the pieces of tensor {name} do not make {tuple(merged.shape)}; shards do not match")
    for offsets, piece in pieces.items():
        merged[tuple(slice(at, at + size) for at, size in zip(offsets, piece.shape, strict=True))] = piece
    return merged


def merge_weights(checkpoint: Checkpoint) -> dict[str, LazyTensor]:
    """All weights of a checkpoint, whole when loaded, in the dtype they were trained in."""
    shards = open_shards(checkpoint)

    def lazy(name: str) -> LazyTensor:
        parts = [shard[name] for shard in shards]
        return LazyTensor(parts[0].shape, parts[0].dtype, lambda dtype: merge_tensor(name, parts, dtype).contiguous())

    return {name: lazy(name) for name in shards[0]}
