"""A small remote-sensing network, and tiles that it can learn in seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from seg_zero.encoders.dense_clip import END_TOKEN, START_TOKEN, ClipSettings, VisionSettings
from seg_zero.remote_sensing.model.network import RemoteSensingNetwork
from seg_zero.remote_sensing.model.settings import CatSegSettings, ModelSettings

SMALL = ModelSettings(
    clip=ClipSettings(VisionSettings(32, 32, 8, 16, 3, (0, 1), 2), 16, 16, 1, 2),
    remote=VisionSettings(32, 64, 16, 16, 3, (0, 1), 2),
    dino=VisionSettings(32, 32, 4, 16, 3, (0, 1), 2),
    layers=1,
    hidden=16,
    heads=2,
    guide_widths=(8, 8),
    guide_channels=(4, 4),
    decoder=(16, 16),
    cat_seg=CatSegSettings(heads=2, window=2, pad_length=6),
)


def small(**changes: Any) -> ModelSettings:
    return replace(SMALL, **changes)


def telling_network(**changes: Any) -> RemoteSensingNetwork:
    """A network with random towers that tell names, and places, well apart, and room in the decoder to learn."""
    torch.manual_seed(0)
    network = RemoteSensingNetwork(small(**{"templates": "none", "hidden": 32, "decoder": (32, 16), **changes}))
    embeddings = network.clip.model.text_model.embeddings
    with torch.no_grad():
        # Of a text, only the name itself has a vector.
        embeddings.token_embedding.weight[[START_TOKEN, END_TOKEN]] = 0
        embeddings.position_embedding.weight.zero_()
        for name, weight in network.clip.model.vision_model.named_parameters():
            if name.endswith(("v_proj.weight", "out_proj.weight")):
                weight *= 4
    return network


class Halves:
    """Tiles whose left part is green "grass" and whose right part is blue "water"; the first row does not count."""

    classes = ("grass", "water")

    def __init__(self, count: int = 6, height: int = 40, width: int = 48) -> None:
        self.count, self.size = count, (height, width)

    def __len__(self) -> int:
        return self.count

    def _border(self, index: int) -> int:
        return self.size[1] * (index + 2) // (self.count + 3)

    def image(self, index: int) -> np.ndarray:
        picture = np.zeros((*self.size, 3), np.uint8)
        picture[:, : self._border(index), 1] = 200
        picture[:, self._border(index) :, 2] = 200
        return picture

    def labels(self, index: int) -> np.ndarray:
        found = np.zeros(self.size, np.uint8)
        found[:, self._border(index) :] = 1
        found[0] = 255
        return found

    def name(self, index: int) -> str:
        return f"tile_{index}"
