"""Cost maps: how like each place is to each text, for a picture in four directions.

Axes: B pictures, K directions, T texts, C channels, h x w places.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from seg_zero.remote_sensing.model.settings import ModelSettings

DIRECTIONS = 4
_KERNEL = 7


def in_directions(images: torch.Tensor) -> torch.Tensor:
    """B x 3 x S x S to 4B x 3 x S x S: unrotated, then by 90, 180 and 270 degrees counter-clockwise, as one batch."""
    return torch.cat([torch.rot90(images, k, (2, 3)) for k in range(DIRECTIONS)])


def turned_back(features: Sequence[torch.Tensor]) -> torch.Tensor:
    """Maps of the pictures rotated by 0, 90, ... degrees, each B x C x h x w, rotated back: B x K x C x h x w."""
    return torch.stack([torch.rot90(part, -k, (2, 3)) for k, part in enumerate(features)], dim=1)


def cosines(features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """B x K x C x h x w and T x C to B x K x T x h x w, each from -1 to 1."""
    return torch.einsum("bkchw,tc->bkthw", F.normalize(features, dim=2), F.normalize(text, dim=-1))


class CostFusion(nn.Module):
    """RS-CMA's embedding of the cost maps: B x K x T x h x w, and B x 1 x T x h x w of DINO, to B x hidden x T x h x w.

    separate: sigmoid(conv) of each, both fused by a third, the result added to CLIP's; concatenation: one convolution
    of all maps; mean: one of their mean. Without DINO: one convolution of CLIP's maps, whatever the fusion.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        directions, hidden = settings.directions, settings.hidden
        with_dino = settings.dino is not None
        self.fusion = settings.fusion if with_dino else "concatenation"
        channels = {"separate": directions, "concatenation": directions + with_dino, "mean": 1}[self.fusion]
        self.clip = nn.Conv2d(channels, hidden, _KERNEL, padding=_KERNEL // 2)
        if self.fusion == "separate":
            self.dino = nn.Conv2d(1, hidden, _KERNEL, padding=_KERNEL // 2)
            self.both = nn.Conv2d(2 * hidden, hidden, _KERNEL, padding=_KERNEL // 2)

    def forward(self, clip: torch.Tensor, dino: torch.Tensor | None) -> torch.Tensor:
        batch, _, texts, *_ = clip.shape
        maps = _per_text(clip)
        if self.fusion == "separate":
            assert dino is not None
            seen = self.clip(maps).sigmoid()
            found = self.both(torch.cat([seen, self.dino(_per_text(dino)).sigmoid()], dim=1)).sigmoid() + seen
        else:
            if dino is not None:
                maps = torch.cat([maps, _per_text(dino)], dim=1)
            found = self.clip(maps.mean(dim=1, keepdim=True) if self.fusion == "mean" else maps)
        return found.unflatten(0, (batch, texts)).transpose(1, 2)


def _per_text(costs: torch.Tensor) -> torch.Tensor:
    """B x K x T x h x w to BT x K x h x w."""
    return costs.transpose(1, 2).flatten(0, 1)
