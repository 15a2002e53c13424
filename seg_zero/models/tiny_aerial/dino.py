"""The DINO-shaped encoder, without labels: a student guesses to which prototypes a teacher assigns the same place.

The teacher, a running mean of the student, sees the picture in other colours and another orientation; assignments are
balanced by Sinkhorn's iteration (SwAV, arXiv 2006.09882), place by place as in DINOv2 (arXiv 2304.07193).
"""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from seg_zero.encoders.dino_map import DinoMap
from seg_zero.models.tiny_aerial.clip import normalised
from seg_zero.models.tiny_aerial.lesson import Lesson
from seg_zero.models.tiny_aerial.views import SEED, crops, other_light
from seg_zero.remote_sensing.model.settings import ModelSettings

BATCH, PLACES, PROTOTYPES = 6, 96, 64  # pictures a step, places of each, groups they are told apart into
STUDENT, TEACHER, MOMENTUM = 0.1, 0.05, 0.97  # temperatures; how much of the teacher stays in a step
_DINO = 4  # a stream of random numbers


class Prototypes(nn.Module):
    """N x C to cosines with each prototype."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.table = nn.Parameter(torch.randn(PROTOTYPES, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.mlp(x), dim=-1) @ F.normalize(self.table, dim=-1).T


def balanced(scores: torch.Tensor, rounds: int = 3) -> torch.Tensor:
    """N x K scores to assignments: rows sum to 1, and every column gets about N / K."""
    found = (scores - scores.max()).exp()
    for _ in range(rounds):
        found = found / found.sum(dim=0, keepdim=True)
        found = found / found.sum(dim=1, keepdim=True)
    return found


def dino_lesson(settings: ModelSettings) -> Lesson:
    """DINO: the teacher is kept."""
    assert settings.dino is not None
    student, head = DinoMap(settings.dino), Prototypes(settings.dino.width)
    trained = nn.ModuleList([student, head])
    teaching = copy.deepcopy(trained).requires_grad_(False)
    teacher, teacher_head = teaching
    assert isinstance(teacher, DinoMap)

    def loss(step: int) -> torch.Tensor:
        with torch.no_grad():
            for old, new in zip(teaching.parameters(), trained.parameters(), strict=True):
                old.lerp_(new, 1 - MOMENTUM)
        random = np.random.default_rng((SEED, 2, _DINO, step))
        pixels, _ = crops(BATCH, step, _DINO)
        turns = int(random.integers(1, 4))  # never 0: a place must not be known by where it is
        turned = torch.rot90(other_light(pixels, random), turns, (2, 3))
        seen = student(normalised(pixels))[-1].flatten(2)
        with torch.no_grad():
            taught = torch.rot90(teacher(normalised(turned))[-1], -turns, (2, 3)).flatten(2)
        places = torch.from_numpy(random.choice(seen.shape[2], PLACES, replace=False))
        scores = head(seen[:, :, places].transpose(1, 2).flatten(0, 1))
        with torch.no_grad():
            wanted = balanced(teacher_head(taught[:, :, places].transpose(1, 2).flatten(0, 1)) / TEACHER)
        return F.cross_entropy(scores / STUDENT, wanted)

    return Lesson(teacher.model, trained, loss, followed=teaching)
