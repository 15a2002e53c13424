"""One encoder's training: Muon for the matrices of its blocks, AdamW for the rest, in parts that end and go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from seg_zero.files import whole_file
from seg_zero.models.muon import MuonAndAdamW

MATRIX_RATE, OTHER_RATE, WARM_UP = 0.02, 3e-3, 20  # Muon, AdamW, steps
_SAID = 10  # steps between lines
_KEPT = 50  # steps between copies of the progress


@dataclass(frozen=True)
class Lesson:
    """encoder: what is kept; trained: all that is learnt; loss: of a step, a function of its number and the weights;
    followed: modules that change otherwise."""

    encoder: nn.Module
    trained: nn.ModuleList
    loss: Callable[[int], torch.Tensor]
    followed: nn.ModuleList = field(default_factory=nn.ModuleList)


def fit(lesson: Lesson, steps: int, name: str, progress: Path, deadline: float = math.inf) -> bool:
    """Minimise, with warm-up and half a cosine to 0; returns whether all steps are done.

    progress: a file from which an unfinished lesson goes on exactly. deadline: of time.monotonic().
    """
    named = [(key, weight) for key, weight in lesson.trained.named_parameters() if weight.requires_grad]
    matrices = [weight for key, weight in named if weight.ndim == 2 and not _is_table(key)]
    others = [weight for key, weight in named if weight.ndim != 2 or _is_table(key)]
    rates = (MATRIX_RATE, OTHER_RATE)
    optimisers = MuonAndAdamW(matrices, others, rates=rates, warm_up=WARM_UP, steps=steps, betas=(0.9, 0.95))
    done = 0
    if progress.is_file():
        saved = torch.load(progress, weights_only=True)
        lesson.trained.load_state_dict(saved["trained"])
        lesson.followed.load_state_dict(saved["followed"])
        optimisers.restore(saved["optimisers"])
        done = saved["step"]
    start = time.monotonic()
    recent: list[float] = []
    print(f"{name}: {sum(weight.numel() for _, weight in named):,} parameters, step {done} of {steps}", flush=True)
    while done < steps:
        loss = lesson.loss(done)
        loss.backward()
        optimisers.step(done)
        recent.append(float(loss.detach()))
        done += 1
        if done % _SAID == 0 or done == steps:
            mean = sum(recent[-_SAID:]) / len(recent[-_SAID:])
            print(f"{name}: step {done}  loss {mean:.3f}  {time.monotonic() - start:.0f} s", flush=True)
        late = time.monotonic() > deadline
        if done < steps and (late or done % _KEPT == 0):
            state = {"trained": lesson.trained.state_dict(), "followed": lesson.followed.state_dict()}
            with whole_file(progress) as partial:
                torch.save({**state, "optimisers": optimisers.state(), "step": done}, partial)
        if late:
            break
    if done == steps:
        progress.unlink(missing_ok=True)
    return done == steps


def _is_table(name: str) -> bool:
    """Whether a matrix is a table of vectors, of which a step moves some rows alone."""
    return "embed" in name or "table" in name
