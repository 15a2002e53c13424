"""What can refine: our SAM 2 and SAM 3 segmenters with their own encoder, or SAM-1's decoder on RADIO's features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from PIL import Image

from seg_zero.encoders.radio import RadioEncoder
from seg_zero.encoders.sam_decoder import SamDecoder
from seg_zero.errors import InputError
from seg_zero.objects import PromptObject
from seg_zero.open_vocabulary.refinement import MaskSource, Region, Size
from seg_zero.open_vocabulary.sam_frame import SamFrameSource, input_size
from seg_zero.segmenter import Segmenter


class SegmenterSource:
    """Boxes and points of regions to a segmenter of :mod:`seg_zero.segmenter`; no mask prompts."""

    def __init__(self, segmenter: Segmenter, picture: Image.Image) -> None:
        self.segmenter = segmenter
        (self._embedding,) = segmenter.embed([picture])

    def masks(
        self, regions: list[Region], probability: torch.Tensor, half: Size, size: Size
    ) -> tuple[torch.Tensor, torch.Tensor]:
        across, down = size[1] / half[1], size[0] / half[0]
        objects = [
            PromptObject(
                (x0 * across, y0 * down, (x1 + 1) * across, (y1 + 1) * down),
                (((region.point[0] + 0.5) * across, (region.point[1] + 0.5) * down),),
            )
            for region in regions
            for x0, y0, x1, y1 in [region.box]
        ]
        found = self.segmenter.segment_embedded(self._embedding, objects, low_res=True)
        assert found.low_res is not None
        low = torch.from_numpy(found.low_res)[:, None].to(probability.device)
        logits = F.interpolate(low, size=size, mode="bilinear", align_corners=False)[:, 0]
        return logits, torch.from_numpy(found.scores).to(probability.device)


def radio_sam_source(
    encoder: RadioEncoder,
    sam: SamDecoder,
    image: torch.Tensor,
    coarse_threshold: float,
    mask_coefficient: float = 0.005,
) -> MaskSource:
    """SAM-1's decoder on RADIO's features, as RADSeg+ does it: one pass of the backbone, no second image encoder.

    image: 3 x H x W in 0..1. Raises InputError if the backbone has no sam adaptor of the decoder's width.
    """
    head = encoder.adaptor("sam").feature
    if head is None:
        raise InputError(f"backbone {encoder.name} has a sam adaptor without a head for patches; take another backbone")
    inside = input_size((image.shape[-2], image.shape[-1]))
    with torch.inference_mode():
        resized = F.interpolate(image[None], size=inside, mode="bilinear", align_corners=False)
        features = head(encoder.features(resized).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if features.shape[1] != sam.width:
            raise InputError(
                f"the sam adaptor gives {features.shape[1]} channels, this SAM takes {sam.width}; "
                "give facebook/sam-vit-huge"
            )
        return SamFrameSource(sam.decoder(sam.embedding(features)), inside, coarse_threshold, mask_coefficient)
