"""Checkpoints of a training: folders ``step_N``, and ``checkpoints.json``, which says which is the last and the best.

A checkpoint is complete before the file names it, and the file is replaced in one go; folders it no longer names go.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from seg_zero.errors import InputError, one_line
from seg_zero.files import make_folder, read_json, whole_file, write_json, writing
from seg_zero.remote_sensing.model.files import POINTER, fill_network, save_network
from seg_zero.remote_sensing.model.network import RemoteSensingNetwork

STATE = "training.pt"


@dataclass(frozen=True)
class Pointer:
    """Folders of the last and of the best checkpoint, and what the best is by; ``step``: of the last."""

    last: str
    step: int
    best: str = ""
    best_miou: float = -1.0


def read_pointer(out: Path) -> Pointer | None:
    """None if the training has saved nothing. Raises InputError for a damaged file."""
    if not (out / POINTER).is_file():
        return None
    try:
        return Pointer(**read_json(out / POINTER))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{out / POINTER} cannot be read ({one_line(error)}); give a new output_dir") from error


def save(
    out: Path,
    network: RemoteSensingNetwork,
    state: dict[str, Any],
    about: dict[str, Any],
    step: int,
    miou: float | None,
) -> Pointer:
    """Write the checkpoint of a step. miou: what an evaluation at this step gave, if there was one."""
    before = read_pointer(out)
    name = f"step_{step:06d}"
    part = make_folder(out / f".{name}.tmp")
    save_network(network, part, {**about, "step": step, "miou": miou})
    with whole_file(part / STATE) as partial:
        torch.save({**state, "step": step}, partial)
    with writing(out / name):
        if (out / name).exists():  # of a run that was killed before it was named
            shutil.rmtree(out / name)
        os.replace(part, out / name)
    best, best_miou = (before.best, before.best_miou) if before else ("", -1.0)
    if miou is not None and miou > best_miou:
        best, best_miou = name, miou
    pointer = Pointer(name, step, best, best_miou)
    write_json(out / POINTER, asdict(pointer))
    for folder in (*out.glob("step_*"), *out.glob(".step_*.tmp")):
        if folder.name not in (pointer.last, pointer.best):
            shutil.rmtree(folder, ignore_errors=True)
    return pointer


def resume(out: Path, pointer: Pointer, network: RemoteSensingNetwork) -> dict[str, Any]:
    """Load the last checkpoint's weights; returns its state. Raises InputError for a damaged one."""
    folder = out / pointer.last
    fill_network(network, folder)
    try:
        return torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises anything for damaged files
        raise InputError(f"{folder / STATE} cannot be read ({one_line(error)}); give a new output_dir") from error
