"""What goes into the SAM decoder and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from seg_zero.objects import Box, Point
from seg_zero.segmenter.base import Embedding

DECODER_BATCH = 16  # an embedding is held for each prompt

# SAM's labels of prompt tokens.
NOT_A_POINT, ON_OBJECT, UPPER_LEFT, LOWER_RIGHT = -1, 1, 2, 3


@dataclass(frozen=True)
class Prompt:
    """What of one object can be used: a box, points in pixels of the image, h x w logits of an earlier mask."""

    embedding: Embedding
    box: Box | None
    points: Sequence[Point]
    mask: np.ndarray | None = None

    @property
    def shape(self) -> tuple[bool, int, bool]:
        """Prompts with equal shapes go through the decoder together."""
        return self.box is not None, len(self.points), self.mask is not None


@dataclass(frozen=True)
class Candidates:
    """Masks the decoder proposes for a batch of prompts: logits B x 3 x h x w and predicted IoUs B x 3."""

    logits: torch.Tensor
    quality: torch.Tensor
