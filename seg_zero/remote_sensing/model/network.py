"""The whole network: three encoders and the decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from seg_zero.encoders.dense_clip import DenseClip, VisionGuide
from seg_zero.encoders.dino_map import DinoMap
from seg_zero.remote_sensing.model.costs import in_directions
from seg_zero.remote_sensing.model.decoder import Decoder, Features
from seg_zero.remote_sensing.model.settings import ModelSettings
from seg_zero.remote_sensing.model.texts import TextVectors

# CLIP's, for pixels from 0 to 255. All three encoders get the same normalised pixels, as published.
MEAN = (122.7709383, 116.7460125, 104.09373615)
STD = (68.5005327, 66.6321579, 70.3231630)


class GuideUp(nn.Module):
    """Two middle maps of a CLIP tower to 2 and 4 times their resolution."""

    def __init__(self, width: int, guide_widths: Sequence[int]) -> None:
        super().__init__()
        self.by2 = nn.ConvTranspose2d(width, guide_widths[0], 2, 2)
        self.by4 = nn.ConvTranspose2d(width, guide_widths[1], 4, 4)

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [self.by2(maps[0]), self.by4(maps[1])]


class DinoUp(nn.Module):
    """DINO's maps, at twice CLIP's resolution: two guides, and features in CLIP's width and grid."""

    def __init__(self, width: int, guide_widths: Sequence[int], embed: int) -> None:
        super().__init__()
        self.keep = nn.Conv2d(width, guide_widths[0], 1)
        self.by2 = nn.ConvTranspose2d(width, guide_widths[1], 2, 2)
        self.down = nn.Conv2d(width, embed, 2, 2)

    def forward(self, maps: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        return self.down(maps[2]), [self.keep(maps[0]), self.by2(maps[1])]


class RemoteSensingNetwork(nn.Module):
    """RSKT-Seg (arXiv 2509.12040): pictures and texts to a logit for each text at 4 times CLIP's grid."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings, widths = settings, settings.guide_widths
        self.clip = DenseClip(settings.clip)
        self.clip_up = GuideUp(settings.clip.vision.width, widths)
        self.remote = None if settings.remote is None else VisionGuide(settings.remote)
        self.remote_up = None if settings.remote is None else GuideUp(settings.remote.width, widths)
        self.dino = None if settings.dino is None else DinoMap(settings.dino)
        self.dino_up = None if settings.dino is None else DinoUp(settings.dino.width, widths, settings.clip.embed)
        self.decoder = Decoder(settings)
        self.texts = TextVectors(self.clip, settings.templates)
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def new_modules(self) -> Iterator[nn.Module]:
        """What is trained from nothing: all but the encoders."""
        yield from filter(None, (self.clip_up, self.remote_up, self.dino_up, self.decoder))

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """B x 3 x H x W, 0 to 255."""
        return (images - self.mean) / self.std

    def features(self, pixels: torch.Tensor) -> Features:
        """B x 3 x H x W normalised pixels, squeezed to each encoder's square."""
        settings = self.settings
        seen = _square(pixels, settings.clip.vision.side)
        turned = in_directions(seen) if settings.rotate else seen
        dense, middle = self.clip.image(turned, settings.clip.vision.taken, taken_from=len(seen))
        dino, dino_guides, remote_guides = None, None, None
        if self.remote is not None and self.remote_up is not None and settings.remote is not None:
            remote_guides = self.remote_up(self.remote(_square(pixels, settings.remote.side)))
        if self.dino is not None and self.dino_up is not None and settings.dino is not None:
            dino, dino_guides = self.dino_up(self.dino(_square(pixels, settings.dino.side)))
        directions = dense.chunk(settings.directions)
        return Features(directions[0], directions, self.clip_up(middle), remote_guides, dino, dino_guides)

    def forward(self, images: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """B x 3 x H x W pixels from 0 to 255 and T class names to logits B x T x h x w."""
        return self.decoder(self.features(self.normalised(images)), self.texts(names))


def _square(pixels: torch.Tensor, side: int) -> torch.Tensor:
    if pixels.shape[2:] == (side, side):
        return pixels
    return F.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False)
