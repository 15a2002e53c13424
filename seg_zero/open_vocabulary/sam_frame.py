"""SAM's frame of 1024 x 1024: prompts into it, masks out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from seg_zero.encoders.radio_versions import PATCH
from seg_zero.open_vocabulary.refinement import Region, Size

FRAME, LOW = 1024, 256  # sides of SAM's input and of its low-resolution masks

# Boxes N x 4, points N x 1 x 2 (both x, y in the frame) and one mask prompt 1 x 1 x 256 x 256 to logits N x 256 x 256
# and predicted IoUs N.
Decoder = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def input_size(size: Size) -> Size:
    """The size of a picture as RADIO's features fill SAM's frame: the longer side 1024, the other a multiple of 16."""
    height, width = size
    short = int(min(size) * (FRAME // PATCH) / max(size)) * PATCH
    return (FRAME, max(PATCH, short)) if height >= width else (max(PATCH, short), FRAME)


def longest_side(size: Size, longest: int) -> Size:
    """A size whose longer side is ``longest``, rounded as SAM does."""
    scale = longest / max(size)
    return (int(size[0] * scale + 0.5), int(size[1] * scale + 0.5))


class SamFrameSource:
    """A :class:`seg_zero.open_vocabulary.refinement.MaskSource` on SAM's decoder.

    inside: the part of the frame that the picture fills. mask_coefficient: what the class's probability is multiplied
        with in the mask prompt, where it is above ``coarse_threshold``.
    """

    def __init__(
        self, decoder: Decoder, inside: Size, coarse_threshold: float = 0.1, mask_coefficient: float = 0.005
    ) -> None:
        self.decoder, self.inside = decoder, inside
        self.coarse_threshold, self.mask_coefficient = coarse_threshold, mask_coefficient

    def masks(
        self, regions: Sequence[Region], probability: torch.Tensor, half: Size, size: Size
    ) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = longest_side(half, FRAME)
        scale = torch.tensor([width / half[1], height / half[0]])
        boxes = torch.tensor([region.box for region in regions]).reshape(-1, 2, 2) * scale
        points = torch.tensor([region.point for region in regions])[:, None] * scale
        logits, quality = self.decoder(boxes.flatten(1), points, self.mask_prompt(probability))
        return self.enlarged(logits, size).to(probability.device), quality.to(probability.device)

    def mask_prompt(self, probability: torch.Tensor) -> torch.Tensor:
        """The class's probability, dh x dw, as 1 x 1 x 256 x 256: 0 where it is low, and outside the picture."""
        height, width = longest_side((probability.shape[0], probability.shape[1]), LOW)
        prompt = F.interpolate(probability[None, None], size=(height, width), mode="bilinear", align_corners=False)
        prompt = F.pad(prompt, (0, LOW - width, 0, LOW - height))
        return torch.where(prompt > self.coarse_threshold, prompt * self.mask_coefficient, 0.0)

    def enlarged(self, logits: torch.Tensor, size: Size) -> torch.Tensor:
        """N x 256 x 256 logits of the frame to N x H x W of the picture: to 1024, cut to the picture, to its size."""
        large = F.interpolate(logits[:, None], size=(FRAME, FRAME), mode="bilinear", align_corners=False)
        large = large[..., : self.inside[0], : self.inside[1]]
        return F.interpolate(large, size=size, mode="bilinear", align_corners=False)[:, 0]
