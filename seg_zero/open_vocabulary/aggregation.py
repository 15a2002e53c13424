"""Self-correlating global aggregation (SCGA): each patch becomes a mean over the patches that look like it.

RADSeg, arXiv 2511.19704. It works on the stitched feature map, so windows that saw parts of one thing agree on it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

SCORES_AT_ONCE = 1 << 20  # similarities in memory: 4 MB, which stay in the processor's cache


def aggregate(features: torch.Tensor, scaling: float = 10.0, *, means: torch.Tensor | None = None) -> torch.Tensor:
    """B x D x h x w features, each patch replaced by a weighted mean over its image's patches.

    With G the features of one image's M patches scaled to length 1: S = (G G' - mean) * ``scaling``; negative entries
    are left out; the weights are softmax over a row of S. The mean is that of all M x M entries, which is the squared
    length of the mean of G, so S is never needed as a whole and its rows are computed some at a time.

    An entry of a patch with itself is never left out: in a flat map rounding can make whole rows negative.
    ``means`` (B) gives other means; the published code takes one over the whole batch.
    """
    batch, _, height, width = features.shape
    patches = features.flatten(2).transpose(1, 2).float()  # B x M x D
    directions = F.normalize(patches, dim=-1)
    if means is None:
        means = directions.mean(dim=1).square().sum(dim=-1)
    count = height * width
    step = max(1, SCORES_AT_ONCE // count)
    result = torch.empty_like(patches)
    for image in range(batch):
        for start in range(0, count, step):
            rows = directions[image, start : start + step]
            scores = (rows @ directions[image].T).sub_(means[image]).mul_(scaling)
            left_out = scores < 0
            left_out[:, start : start + len(rows)].fill_diagonal_(False)
            weights = scores.masked_fill_(left_out, float("-inf")).softmax(dim=-1)
            result[image, start : start + step] = weights @ patches[image]
    return result.transpose(1, 2).reshape(features.shape).to(features.dtype)
