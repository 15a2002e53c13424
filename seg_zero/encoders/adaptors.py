"""RADIO's adaptor heads: small MLPs from the backbone's space to that of a teacher (SigLIP2, CLIP, SAM).

Two forms are published; the names of the weights say which.

    second form   [LayerNorm, GELU], Linear; residual blocks of LayerNorm, GELU, Linear; LayerNorm, GELU, Linear
    first form    Linear, LayerNorm, ReLU; blocks of Linear, LayerNorm, ReLU; Linear
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from seg_zero.errors import InputError

State = Mapping[str, torch.Tensor]


class AdaptorHead(nn.Module):
    """The second form: ... x D to ... x E. ``pre_norm`` is empty where the checkpoint has none."""

    def __init__(self, width: int, hidden: int, out: int, blocks: int = 0, pre_norm: bool = False) -> None:
        super().__init__()
        self.pre_norm = nn.Sequential(nn.LayerNorm(width), nn.GELU()) if pre_norm else nn.Sequential()
        self.fc1 = nn.Linear(width, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, hidden)) for _ in range(blocks)
        )
        self.final = nn.Sequential(nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc1(self.pre_norm(x))
        for block in self.blocks:
            x = x + block(x)
        return self.final(x)


class FirstAdaptorHead(nn.Module):
    """The first form: ... x D to ... x E."""

    def __init__(self, width: int, hidden: int, out: int, blocks: int = 0) -> None:
        super().__init__()
        self.fc1, self.norm = nn.Linear(width, hidden), nn.LayerNorm(hidden)
        inner = [layer for _ in range(blocks) for layer in (nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.ReLU())]
        self.inner = nn.Sequential(*inner)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.inner(self.norm(self.fc1(x)).relu()))


def head_of(state: State, name: str) -> nn.Module:
    """The head whose weights these are; its sizes follow from their shapes.

    Raises InputError for weights of another form; ``name`` is the head's in the message.
    """
    if "fc1.weight" not in state or ("final.2.weight" not in state and "fc2.weight" not in state):
        raise InputError(
            f"adaptor head {name} is of no known form (weights {', '.join(sorted(state)[:6])}); choose another"
        )
    hidden, width = state["fc1.weight"].shape
    head: nn.Module
    if "final.2.weight" in state:
        blocks = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
        head = AdaptorHead(width, hidden, len(state["final.2.weight"]), blocks, "pre_norm.0.weight" in state)
    else:
        blocks = len({key.split(".")[1] for key in state if key.startswith("inner.")}) // 2
        head = FirstAdaptorHead(width, hidden, len(state["fc2.weight"]), blocks)
    try:
        head.load_state_dict(dict(state))
    except RuntimeError as error:
        raise InputError(f"adaptor head {name} does not fit its own shapes; convert the checkpoint again") from error
    return head.eval().requires_grad_(False)
