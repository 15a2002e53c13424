"""Turns a training checkpoint into a Hugging Face folder.

    python3 training_scripts/model_merger.py --local_dir outputs/tiny_cpu/checkpoints/global_step_40

The sharded FSDP2 checkpoint of any number of workers becomes safetensors weights in the dtype that was
trained, beside configuration, processor, tokenizer, chat template, generation configuration and the
prompt settings (seg_zero.json). Of a LoRA run the adapters are merged in and also kept in the folder
``lora_adapter``. verl's own merger casts every weight to bfloat16 and needs a folder to
exist before it checks anything; only its checkpoint layout is relied on here.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_zero.errors import InputError
from seg_zero.prompting import SPEC_FILE
from seg_zero.training.merge_lora import ADAPTER_FOLDER, is_lora, merge_adapters, read_alpha, save_adapter

if TYPE_CHECKING:
    import torch

_DTYPES = ("trained", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Checkpoint:
    """A checked checkpoint: its shards in rank order and the folder of configuration and processor files."""

    shards: tuple[Path, ...]
    files: Path


def find_checkpoint(folder: Path) -> Checkpoint:
    """Accepts an ``actor`` folder or the ``global_step_N`` folder around it.

    Raises InputError if it is neither, or if a shard or the configuration is missing or empty.
    """
    if not folder.is_dir():
        raise InputError(f"checkpoint folder {folder} does not exist; give .../checkpoints/global_step_N")
    actor = folder if (folder / "fsdp_config.json").is_file() else folder / "actor"
    layout = actor / "fsdp_config.json"
    if not layout.is_file():
        steps = sorted(path.name for path in folder.glob("global_step_*"))
        remedy = f"give one of {', '.join(steps)}" if steps else "give .../global_step_N or .../global_step_N/actor"
        raise InputError(f"{folder} is not a training checkpoint (no fsdp_config.json); {remedy}")
    try:
        workers = int(json.loads(layout.read_text())["world_size"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{layout} cannot be read ({error!r}); take another checkpoint") from error
    shards = tuple(actor / f"model_world_size_{workers}_rank_{rank}.pt" for rank in range(workers))
    missing = [path.name for path in shards if not path.is_file() or path.stat().st_size == 0]
    if missing:
        raise InputError(f"{actor} lacks {', '.join(missing)} of {workers} shards; copy them there")
    files = actor / "huggingface"
    if not (files / "config.json").is_file():
        raise InputError(f"{files} has no config.json; copy the checkpoint's huggingface folder")
    return Checkpoint(shards, files)


def _load_shard(path: Path) -> dict[str, torch.Tensor]:
    import torch
    import torch.distributed.tensor  # registers distributed tensors, which the shards hold, as safe to load

    # It warns that the mesh of the training processes does not exist here; nothing here needs it.
    logging.getLogger("torch.distributed.device_mesh").setLevel(logging.ERROR)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"shard {path} cannot be read ({error}); copy it again or take another checkpoint") from error


def merge_tensor(name: str, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """One whole tensor from its parts of all workers, in rank order.

    Sharded parts are joined along their dimension (its last mesh dimension, when data-parallel replicas
    come first); replicated parts must be equal.
    """
    import torch
    from torch.distributed.tensor import DTensor

    first = parts[0]
    if not isinstance(first, DTensor):
        if any(not torch.equal(first, other) for other in parts[1:]):
            raise InputError(f"tensor {name} is not sharded and differs between workers; the checkpoint is damaged")
        return first
    placement = first.placements[-1]
    local = [part.to_local() for part in parts[: first.device_mesh.mesh.shape[-1]]]  # type: ignore[attr-defined]
    if placement.is_replicate():
        return local[0]
    if not placement.is_shard():
        raise InputError(f"tensor {name} has placement {placement}, which is not supported; save with FSDP2")
    merged = torch.cat(local, dim=placement.dim)  # type: ignore[attr-defined]
    if merged.shape != first.shape:
        raise InputError(
            f"tensor {name} has shape {tuple(merged.shape)}, not {tuple(first.shape)}; shards do not match"
        )
    return merged


def merge_weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """All weights of a checkpoint, whole, in the dtype they were trained in."""
    shards = [_load_shard(path) for path in checkpoint.shards]
    names = list(shards[0])
    for path, shard in zip(checkpoint.shards, shards, strict=True):
        if set(shard) != set(names):
            raise InputError(
                f"shard {path} and {checkpoint.shards[0].name} hold different tensors; do not mix checkpoints"
            )
    return {name: merge_tensor(name, [shard.pop(name) for shard in shards]).contiguous() for name in names}


def _write(checkpoint: Checkpoint, weights: dict[str, torch.Tensor], target: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    config = AutoConfig.from_pretrained(checkpoint.files)
    dtype = next(tensor.dtype for tensor in weights.values() if tensor.is_floating_point())
    with torch.device("meta"):
        model: Any = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    absent, unknown = model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    if unknown or set(absent) - tied:
        raise InputError(
            f"the shards do not fit {checkpoint.files / 'config.json'}: missing {sorted(set(absent) - tied)[:3]}, "
            f"unknown {sorted(unknown)[:3]}; take config.json of the trained model"
        )
    model.save_pretrained(target)
    for path in checkpoint.files.iterdir():
        # The checkpoint's own processor, tokenizer and generation files; config.json now also has the dtype.
        if path.is_file() and path.name != "config.json" and path.suffix not in (".safetensors", ".bin"):
            shutil.copy2(path, target / path.name)


def merge(local_dir: Path, target_dir: Path | None = None, dtype: str = "trained") -> Path:
    """Merge a checkpoint into ``target_dir`` (default: ``merged`` inside the checkpoint); returns the folder.

    Raises InputError before any work if something is missing. The folder appears whole or not at all.
    """
    import torch

    checkpoint = find_checkpoint(Path(local_dir))
    target = Path(target_dir) if target_dir is not None else checkpoint.files.parent / "merged"
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"--target_dir {target} exists and is not an empty folder; give a new one or remove it")
    weights = merge_weights(checkpoint)
    trained, alpha = weights, 0
    if is_lora(trained):
        alpha = read_alpha(checkpoint.files.parent)
        weights = merge_adapters(trained, alpha)
    if dtype != "trained":
        wanted = getattr(torch, dtype)
        weights = {name: t.to(wanted) if t.is_floating_point() else t for name, t in weights.items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _write(checkpoint, weights, partial)
        if is_lora(trained):
            save_adapter(trained, alpha, partial / ADAPTER_FOLDER)
        partial.chmod(0o755)
        if target.exists():
            target.rmdir()
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def main(argv: Sequence[str] | None = None) -> int:
    """Turn a training checkpoint into a model folder."""
    parser = argparse.ArgumentParser(prog="model_merger.py", description=main.__doc__)
    parser.add_argument("--local_dir", required=True, type=Path, help="global_step_N folder, or actor folder in it")
    parser.add_argument("--target_dir", type=Path, help="folder to make (default: merged, inside the actor folder)")
    parser.add_argument("--dtype", choices=_DTYPES, default="trained", help="of the weights (default: %(default)s)")
    arguments = parser.parse_args(argv)
    target = merge(arguments.local_dir, arguments.target_dir, arguments.dtype)
    if not (target / SPEC_FILE).is_file():
        print(f"note: the checkpoint has no {SPEC_FILE}; inference will use the default prompt")
    print(f"merged into {target}")
    return 0
