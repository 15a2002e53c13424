"""The optimiser Muon in float32, and the pair of it and AdamW that trains the embedded models."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal (Jordan and others 2024), as torch.optim.Muon, but in float32.

    On a CPU without bfloat16 that of torch takes two thirds of a training step.
    """

    def __init__(self, matrices: list[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            # Matrices of one shape together: on a GPU small ones cost as much as their launches.
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.shape].append(weight)
            for (rows, columns), weights in alike.items():
                rate = group["lr"] * max(1, rows / columns) ** 0.5
                updates = orthogonal(torch.stack([self._direction(weight, group["momentum"]) for weight in weights]))
                for weight, update in zip(weights, updates, strict=True):
                    weight.add_(update, alpha=-rate)

    def _direction(self, weight: nn.Parameter, momentum: float) -> torch.Tensor:
        kept = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        kept.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(kept, momentum)  # type: ignore[union-attr]


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The matrices (... x M x N) with singular values near 1, by five Newton-Schulz steps of the fifth order."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


class MuonAndAdamW:
    """Muon for the matrices inside a network, AdamW for all else.

    rates: the highest of both; they rise linearly over ``warm_up`` steps, then fall as half a cosine to zero.
    """

    def __init__(
        self,
        matrices: list[nn.Parameter],
        others: list[nn.Parameter],
        *,
        rates: tuple[float, float],
        warm_up: int,
        steps: int,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        self.parameters = matrices + others
        self._rates, self._warm_up, self._steps = rates, warm_up, steps
        self._both = (Muon(matrices, rates[0]), torch.optim.AdamW(others, rates[1], betas=betas, weight_decay=0.0))

    def step(self, number: int) -> None:
        """Update number ``number``, from 0 up, by the gradients there are, clipped to a norm of 1; clears them."""
        factor = min(1.0, (number + 1) / self._warm_up) * 0.5 * (1 + math.cos(math.pi * number / self._steps))
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimiser, rate in zip(self._both, self._rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * factor
            optimiser.step()
            optimiser.zero_grad()

    def state(self) -> list[dict[str, Any]]:
        """What :meth:`restore` takes, to go on exactly."""
        return [optimiser.state_dict() for optimiser in self._both]

    def restore(self, state: Sequence[dict[str, Any]]) -> None:
        for optimiser, kept in zip(self._both, state, strict=True):
            optimiser.load_state_dict(kept)
