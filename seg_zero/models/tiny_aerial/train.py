"""Train the embedded encoders for the synthetic aerial world from scratch, on a CPU.

    python -m seg_zero.models.tiny_aerial.train --out seg_zero/models/tiny_aerial

Writes clip.safetensors, remote.safetensors and dino.safetensors, in half precision and under the names of the published
files, of the sizes of ``configs/remote_sensing/size/tiny.yaml``. With ``--minutes`` it stops early, and goes on at the
next call. ``--parts`` makes some of the files; RemoteCLIP's needs CLIP's.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from seg_zero.encoders.dense_clip import DenseClip
from seg_zero.encoders.published_weights import load_clip
from seg_zero.errors import InputError, run_command
from seg_zero.files import make_folder, whole_file
from seg_zero.models.tiny_aerial.clip import clip_lesson, remote_lesson
from seg_zero.models.tiny_aerial.dino import dino_lesson
from seg_zero.models.tiny_aerial.lesson import Lesson, fit
from seg_zero.models.tiny_aerial.views import SEED
from seg_zero.remote_sensing.model.settings import ModelSettings
from seg_zero.remote_sensing.training.config import compose_settings

STEPS = {"clip": 250, "remote": 60, "dino": 90}


def settings() -> ModelSettings:
    """The sizes of the encoders."""
    return compose_settings(["recipe=tiny", "data.train.folder=."])[0].model


def train(out: Path, parts: Sequence[str], steps: dict[str, int], minutes: float = math.inf) -> bool:
    """Make the files of ``parts`` in ``out``, or go on with them; returns whether all are there.

    Raises InputError for a part without the one it needs.
    """
    deadline = time.monotonic() + 60 * minutes
    make_folder(out)
    for part in STEPS:
        file = out / f"{part}.safetensors"
        if part not in parts or file.is_file():
            continue
        lesson = lesson_of(part, out)
        if not fit(lesson, steps[part], part, out / f"{part}_progress.pt", deadline):
            return False
        before = "vision_model." if part == "remote" else ""
        weights = {before + name: value.half().contiguous() for name, value in lesson.encoder.state_dict().items()}
        with whole_file(file) as partial:
            save_file(weights, partial)
        print(f"{file}: {file.stat().st_size:,} bytes", flush=True)
    return True


def lesson_of(part: str, out: Path) -> Lesson:
    """The training of a part from its seed."""
    sizes = settings()
    torch.manual_seed(SEED + list(STEPS).index(part))
    if part == "clip":
        return clip_lesson(sizes)
    if part == "dino":
        return dino_lesson(sizes)
    words = DenseClip(sizes.clip)
    load_clip(words, out / "clip.safetensors")
    return remote_lesson(sizes, words)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Train encoders for the synthetic aerial world from scratch.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the three files; those there are kept")
    parser.add_argument("--parts", default=",".join(STEPS), help="any of clip,remote,dino (default: all)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after these, and go on at the next call")
    arguments = parser.parse_args(argv)
    parts = arguments.parts.split(",")
    if unknown := [part for part in parts if part not in STEPS]:
        raise InputError(f"--parts {unknown[0]!r} is unknown; choose from {', '.join(STEPS)}")
    torch.set_num_threads(1)
    finished = train(arguments.out, parts, STEPS, arguments.minutes)
    print("finished" if finished else "not finished; repeat the command")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
