"""From features to a logit for each text at each place: costs, their fusion and refinement, guided upsampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from seg_zero.remote_sensing.model.cat_seg import CatSegLayer
from seg_zero.remote_sensing.model.costs import CostFusion, cosines, turned_back
from seg_zero.remote_sensing.model.rs_fusion import RsFusionLayer
from seg_zero.remote_sensing.model.settings import ModelSettings

_CHANNELS_A_GROUP = 16
_INITIAL_STD = 0.02


@dataclass(frozen=True)
class Features:
    """What the encoders say about a batch; h x w is CLIP's grid.

    image: dense CLIP features of the picture as it is, B x C x h x w.
    directions: those of the picture rotated by 0, 90, ... degrees, not rotated back, B x C x h x w each.
    dino: B x C x h x w. Guides: of each source B x channels x 2h x 2w and B x channels x 4h x 4w.
    """

    image: torch.Tensor
    directions: Sequence[torch.Tensor]
    clip_guides: Sequence[torch.Tensor]
    remote_guides: Sequence[torch.Tensor] | None = None
    dino: torch.Tensor | None = None
    dino_guides: Sequence[torch.Tensor] | None = None


def costs_of(features: Features, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """B x K x T x h x w of CLIP, and B x 1 x T x h x w of DINO or None."""
    clip = cosines(turned_back(features.directions), text)
    return clip, None if features.dino is None else cosines(features.dino[:, None], text)


def _reduced(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU())


class GuideReduction(nn.Module):
    """The two guides of one source to fewer channels."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        pairs = zip(settings.guide_widths, settings.guide_channels, strict=True)
        self.stages = nn.ModuleList(_reduced(before, after) for before, after in pairs)

    def forward(self, guides: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [stage(guide) for stage, guide in zip(self.stages, guides, strict=True)]


class UpStage(nn.Module):
    """RS-Transfer's step to twice the resolution: the map, enlarged, beside the guides of all sources, mixed."""

    def __init__(self, before: int, guide: int, sources: int, after: int) -> None:
        super().__init__()
        groups = after // _CHANNELS_A_GROUP
        self.up = nn.ConvTranspose2d(before, before - guide, 2, 2)
        self.mix = nn.Sequential(
            nn.Conv2d(before - guide + sources * guide, after, 3, padding=1, bias=False),
            nn.GroupNorm(groups, after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.GroupNorm(groups, after),
            nn.ReLU(),
        )

    def forward(self, maps: torch.Tensor, guides: Sequence[torch.Tensor]) -> torch.Tensor:
        """maps: BT x D x h x w; guides: B x channels x 2h x 2w each."""
        texts = len(maps) // len(guides[0])
        repeated = [guide.repeat_interleave(texts, dim=0) for guide in guides]
        return self.mix(torch.cat([self.up(maps), *repeated], dim=1))


class Decoder(nn.Module):
    """RS-CMA, the aggregator and RS-Transfer."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings, hidden, embed = settings, settings.hidden, settings.clip.embed
        self.cost_fusion = CostFusion(settings)
        self.image_guide = _reduced(embed, hidden)
        self.text_guide = nn.Sequential(nn.Linear(embed, hidden), nn.ReLU())
        self.layers = nn.ModuleList(
            RsFusionLayer(hidden, settings.heads)
            if settings.aggregator == "rs_fusion"
            else CatSegLayer(hidden, settings.cat_seg)
            for _ in range(settings.layers)
        )
        self.clip_reduction = GuideReduction(settings)
        self.remote_reduction = None if settings.remote is None else GuideReduction(settings)
        self.dino_reduction = None if settings.dino is None else GuideReduction(settings)
        first, second = settings.guide_channels
        self.up1 = UpStage(hidden, first, settings.sources, settings.decoder[0])
        self.up2 = UpStage(settings.decoder[0], second, settings.sources, settings.decoder[1])
        self.head = nn.Conv2d(settings.decoder[1], 1, 3, padding=1)
        self.apply(_initialise)

    def forward(self, features: Features, text: torch.Tensor) -> torch.Tensor:
        """Features, and T x C text vectors of any length, to logits B x T x 4h x 4w."""
        clip, dino = costs_of(features, text)
        batch, texts = len(clip), len(text)
        image = self.image_guide(features.image)
        words = self.text_guide(nn.functional.normalize(text, dim=-1)).expand(batch, -1, -1)
        maps = self.cost_fusion(clip, dino)
        for layer in self.layers:
            maps = layer(maps, image, words)
        guides = [self.clip_reduction(features.clip_guides)]
        for reduction, given in (
            (self.remote_reduction, features.remote_guides),
            (self.dino_reduction, features.dino_guides),
        ):
            if reduction is not None:
                assert given is not None
                guides.append(reduction(given))
        flat = maps.transpose(1, 2).flatten(0, 1)
        flat = self.up1(flat, [guide[0] for guide in guides])
        flat = self.up2(flat, [guide[1] for guide in guides])
        return self.head(flat)[:, 0].unflatten(0, (batch, texts))


def _initialise(module: nn.Module) -> None:
    """Linear: truncated normal 0.02; convolution: normal with the variance 2 / outputs of a kernel."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=_INITIAL_STD)
    elif isinstance(module, nn.Conv2d):
        outputs = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=(2.0 / outputs) ** 0.5)
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
