"""From a picture to the probability of each class at each pixel: in one pass, or with windows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from seg_zero.remote_sensing.model.loss import Compat

SHORT_SIDE, LONG_SIDE = 640, 2560  # a picture is scaled to the first, or less to stay within the second
DIVISOR = 32
SLIDING_SIDE, WINDOW, OVERLAP = 640, 384, 0.333
STRIDE = int(WINDOW * (1 - OVERLAP))
Logits = Callable[[torch.Tensor], torch.Tensor]  # B x 3 x H x W pixels from 0 to 255 to B x T x h x w


def scaled(image: np.ndarray) -> np.ndarray:
    """H x W x 3 uint8 with its shorter side at 640 pixels, the longer at 2560 at most; bilinear with antialiasing."""
    height, width = image.shape[:2]
    factor = min(SHORT_SIDE / min(height, width), LONG_SIDE / max(height, width))
    size = (max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def as_tensor(image: np.ndarray, device: str | torch.device) -> torch.Tensor:
    """H x W x 3 uint8 to 1 x 3 x H x W float32, 0 to 255."""
    return torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)[None].float()


def network_input(
    pixels: torch.Tensor, normalised: Callable[[torch.Tensor], torch.Tensor], compat: Compat
) -> torch.Tensor:
    """What the network squeezes to its squares. compat="released": padded below and right to multiples of 32."""
    pixels = normalised(pixels)
    if compat == "released":
        height, width = pixels.shape[2:]
        pixels = F.pad(pixels, (0, -width % DIVISOR, 0, -height % DIVISOR))
    return pixels


def cell_probabilities(logits: torch.Tensor, size: tuple[int, int], compat: Compat = "ours") -> torch.Tensor:
    """B x T x h x w to probabilities of the same cells. size: of the picture before it was padded.

    compat="released" cuts the map of h x w cells by that size in pixels, as published; it matters for pictures with
    less pixels than cells, and the padding stays in the map.
    """
    found = logits.float().sigmoid()
    return found[:, :, : size[0], : size[1]] if compat == "released" else found


def finished(
    logits: torch.Tensor, size: tuple[int, int], out: tuple[int, int], compat: Compat = "ours"
) -> torch.Tensor:
    """B x T x h x w to probabilities B x T x out; the rest as in :func:`cell_probabilities`."""
    return F.interpolate(cell_probabilities(logits, size, compat), size=out, mode="bilinear", align_corners=False)


def windows(pixels: torch.Tensor) -> torch.Tensor:
    """1 x 3 x H x W to 5 x 3 x 384 x 384: four windows of the picture at 640 x 640, row by row, and all of it."""
    large = F.interpolate(pixels, size=(SLIDING_SIDE, SLIDING_SIDE), mode="bilinear", align_corners=False)
    parts = large.unfold(2, WINDOW, STRIDE).unfold(3, WINDOW, STRIDE)
    parts = parts.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    whole = F.interpolate(pixels, size=(WINDOW, WINDOW), mode="bilinear", align_corners=False)
    return torch.cat([parts, whole])


def joined(logits: torch.Tensor) -> torch.Tensor:
    """5 x T x h x w of :func:`windows` to 1 x T x 640 x 640: the mean of the windows and that of the whole."""
    found = F.interpolate(logits.float(), size=(WINDOW, WINDOW), mode="bilinear", align_corners=False).sigmoid()
    parts, whole = found[:-1], found[-1:]
    texts = parts.shape[1]

    def fold(maps: torch.Tensor) -> torch.Tensor:
        columns = maps.permute(1, 2, 3, 0).flatten(0, 2)[None]
        return F.fold(columns, (SLIDING_SIDE, SLIDING_SIDE), WINDOW, stride=STRIDE)

    mean = fold(parts) / fold(torch.ones_like(parts[:, :1])).expand(-1, texts, -1, -1)
    whole = F.interpolate(whole, size=(SLIDING_SIDE, SLIDING_SIDE), mode="bilinear", align_corners=False)
    return (mean + whole) / 2
