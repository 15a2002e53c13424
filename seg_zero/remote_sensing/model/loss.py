"""What training minimises: for each class, whether a pixel is of it."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

IGNORE = 255
Compat = Literal["ours", "released"]


def segmentation_loss(logits: torch.Tensor, labels: torch.Tensor, compat: Compat = "ours") -> torch.Tensor:
    """Binary cross-entropy of logits B x T x h x w, enlarged to the labels B x H x W (255 ignored), over all classes.

    The mean is over the pixels that count, and 0 if none does. compat="released": over all; an ignored pixel is then
    an example against every class, as in the published code.
    """
    enlarged = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
    counts = labels != IGNORE
    classes = torch.where(counts, labels, 0).long()
    wanted = F.one_hot(classes, logits.shape[1]).permute(0, 3, 1, 2) * counts[:, None]
    losses = F.binary_cross_entropy_with_logits(enlarged, wanted.to(enlarged.dtype), reduction="none")
    if compat == "released":
        return losses.mean()
    return (losses.mean(dim=1) * counts).sum() / counts.sum().clamp(min=1)
