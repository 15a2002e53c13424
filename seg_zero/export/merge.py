"""Turns a training checkpoint into a Hugging Face folder.

    python3 training_scripts/model_merger.py --local_dir outputs/tiny_cpu/checkpoints/global_step_40

The sharded FSDP checkpoint of any number of workers becomes safetensors weights in the dtype that was
trained, beside configuration, processor, tokenizer, chat template, generation configuration, the
prompt settings (seg_zero.json) and a model card. The adapters of a LoRA run are merged in and also kept in the
folder ``lora_adapter``, or written alone. verl's own merger casts every weight to bfloat16, holds the model several
times in memory, and needs a folder to exist before it checks anything; only its checkpoint layout is relied on here.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from seg_zero.errors import InputError
from seg_zero.export.card import CARD, base_model_of, model_card, read_run
from seg_zero.export.lora import ADAPTER_FOLDER, merge_adapters, read_alpha, save_adapter
from seg_zero.files import check_folder_place, make_folder, write_text, writing
from seg_zero.policy.lora import is_adapter, is_lora
from seg_zero.policy.model_files import default_spec, missing_parts
from seg_zero.policy.processors import load_processor

if TYPE_CHECKING:
    import torch

    from seg_zero.export.shards import Checkpoint, LazyTensor
    from seg_zero.prompting import PromptTemplate

DTYPES = ("trained", "float32", "bfloat16", "float16")
_SIZE = re.compile(r"[1-9]\d*(\.\d+)?(KB|MB|GB|TB)")
MAX_SHARD_SIZE = "5GB"


class VerificationError(RuntimeError):
    """The written model does not compute the same as the checkpoint's shards."""


def _write_side_files(checkpoint: Checkpoint, target: Path) -> None:
    for path in checkpoint.files.iterdir():
        # The checkpoint's own processor, tokenizer and generation files; config.json now also has the dtype.
        if path.is_file() and path.name != "config.json" and path.suffix not in (".safetensors", ".bin"):
            shutil.copy2(path, target / path.name)


@contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``, which goes in the end unless it was renamed."""
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=make_folder(target.parent)))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_side_files(checkpoint: Checkpoint, base: str | None) -> None:
    """The files beside the weights make a policy that can be loaded. Raises InputError that says what is missing."""
    where = f"the folder {base}" if base is not None and Path(base).is_dir() else base or "the base model"
    lacking = missing_parts(checkpoint.files)
    if lacking:
        raise InputError(
            f"{checkpoint.files} has no {' and no '.join(lacking)}, so that the merged model could not be loaded; copy "
            f"the files there from {where}"
        )
    try:
        load_processor(checkpoint.files)
    except InputError as error:
        raise InputError(f"{error} ({where})") from error


def _check_target(target: Path, weights: Mapping[str, LazyTensor]) -> None:
    check_folder_place(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"--target_dir {target} exists and is not an empty folder; give a new one or remove it")
    needed = sum(tensor.nbytes for tensor in weights.values())
    existing = next(parent for parent in (target, *target.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError(
            f"{target} needs {needed / 1e9:.1f} GB, but its disk has {free / 1e9:.1f} GB left; "
            "give another --target_dir"
        )


def merge(
    local_dir: Path,
    target_dir: Path | None = None,
    dtype: str = "trained",
    *,
    lora: str = "merge",
    base_model: str | None = None,
    max_shard_size: str = MAX_SHARD_SIZE,
    verify: bool = False,
    prompt_template: PromptTemplate | None = None,
) -> Path:
    """Merge a checkpoint into ``target_dir``; returns the folder, which appears only when complete.

    target_dir: default ``merged`` (``adapter`` for adapters alone) inside the checkpoint's actor folder.
    dtype: of the written weights; "trained" keeps the checkpoint's.
    lora: of a LoRA checkpoint, "merge" writes a whole model, "adapter" only the folder that PEFT loads.
    base_model: folder or hub id that the run started from; default what the run's config.yaml says.
    max_shard_size: of one weights file; also about the memory that merging needs.
    verify: compare what the written model and the shards compute.
    prompt_template: the wording that the folder's seg_zero.json shall hold; None keeps the checkpoint's.

    Raises InputError before any work if something is missing, VerificationError if the comparison fails (then
    no folder is left).
    """
    import torch

    from seg_zero.export.shards import find_checkpoint, merge_weights
    from seg_zero.export.write_model import write_model

    checkpoint = find_checkpoint(Path(local_dir))
    if _SIZE.fullmatch(max_shard_size) is None:
        raise InputError(f"--max_shard_size {max_shard_size!r} is not a size; give one such as 5GB or 500MB")
    alone = lora == "adapter"
    if alone and prompt_template is not None:
        raise InputError("--prompt_template has no place in a folder of adapters; omit it or --lora adapter")
    spec = None
    if prompt_template is not None:
        spec = default_spec(str(checkpoint.files), prompt_template=prompt_template)
    target = Path(target_dir) if target_dir is not None else checkpoint.actor / ("adapter" if alone else "merged")
    run = read_run(checkpoint.actor)
    base = base_model or base_model_of(run)
    trained = merge_weights(checkpoint)
    has_adapters = is_lora(trained)
    alpha = read_alpha(checkpoint.actor) if has_adapters else 0
    if alone:
        weights = {name: tensor for name, tensor in trained.items() if is_adapter(name)}
        _check_adapters(checkpoint, weights, base)
        if verify and len(weights) == len(trained):
            raise InputError(
                "--verify needs the base model's weights, but the shards hold only adapters; omit --verify"
            )
    else:
        _check_side_files(checkpoint, base)
        weights = merge_adapters(trained, alpha) if has_adapters else trained
    if dtype != "trained":
        weights = {name: tensor.to(getattr(torch, dtype)) for name, tensor in weights.items()}
    _check_target(target, weights)
    probe = None
    if verify:
        from seg_zero.export.verify import make_probe

        probe = make_probe(checkpoint.files)
    with writing(target), _folder_beside(target) as partial:
        if alone:
            save_adapter(weights, alpha, partial, base)
        else:
            write_model(checkpoint.files, weights, partial, max_shard_size)
            _write_side_files(checkpoint, partial)
            if spec is not None:
                spec.save(partial)
            if has_adapters:
                save_adapter(trained, alpha, partial / ADAPTER_FOLDER, base)
        if not (partial / CARD).exists():
            step = checkpoint.actor.resolve().parent.name
            write_text(partial / CARD, model_card(run, step=step, base_model=base, adapter=alone))
        if probe is not None:
            _verify(checkpoint, partial, probe, weights, alone)
        partial.chmod(0o755)
        if target.exists():
            target.rmdir()
        os.replace(partial, target)
    return target


def _check_adapters(checkpoint: Checkpoint, adapters: Mapping[str, LazyTensor], base: str | None) -> None:
    if not adapters:
        raise InputError(f"{checkpoint.actor} is not of a LoRA run; leave --lora adapter out")
    if base is None:
        raise InputError(
            "the run's config.yaml, which names the base model, is not beside the checkpoints; give --base_model"
        )


def _verify(
    checkpoint: Checkpoint,
    folder: Path,
    probe: Mapping[str, torch.Tensor],
    weights: Mapping[str, LazyTensor],
    alone: bool,
) -> None:
    from seg_zero.export.verify import compare

    dtype = next(tensor.dtype for tensor in weights.values() if tensor.dtype.is_floating_point)
    found = compare(checkpoint, folder, probe, dtype, alone)
    if not found.ok:
        raise VerificationError(f"the written model is not the checkpoint's: {found}; the folder was removed")
    print(f"verified: {found}")
