"""The CLIP- and the RemoteCLIP-shaped encoder: patches are contrasted with the words for what they show."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from seg_zero.encoders.dense_clip import DenseClip, VisionGuide
from seg_zero.encoders.templates import TEMPLATES
from seg_zero.models.tiny_aerial.lesson import Lesson
from seg_zero.models.tiny_aerial.views import SEED, WORDS, crops, rarity
from seg_zero.models.tiny_radio_scenes import patch_fractions
from seg_zero.remote_sensing.data.aerial.world import CLASSES
from seg_zero.remote_sensing.model.network import MEAN, STD
from seg_zero.remote_sensing.model.settings import ModelSettings
from seg_zero.remote_sensing.model.texts import TextVectors

BATCH, SCALE = 16, 16.0  # pictures a step; factor of the cosine
SENTENCES = 0.3  # how often a word stands in a sentence
_CLIP, _REMOTE, _WORDING = 1, 2, 3  # streams of random numbers


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels from 0 to 255 as the encoders take them."""
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def wording(step: int) -> list[str]:
    """One of the words for each class, or a sentence with it."""
    random = np.random.default_rng((SEED, 1, _WORDING, step))
    found = [str(random.choice(WORDS[name])) for name in CLASSES]
    (sentence,) = TEMPLATES["scene"]
    return [sentence.replace("{}", word) if random.random() < SENTENCES else word for word in found]


def contrast(maps: torch.Tensor, text: torch.Tensor, labels: np.ndarray, weights: np.ndarray) -> torch.Tensor:
    """Cross-entropy of the words of each patch, by how much of it each class covers; rare classes count more.

    maps: B x C x h x w; text: a row for each of ``CLASSES``; labels: B x H x W; weights: of the classes.
    """
    found = F.normalize(maps, dim=1).flatten(2).transpose(1, 2).flatten(0, 1) @ F.normalize(text, dim=-1).T
    patch = labels.shape[1] // maps.shape[2]
    shares = torch.from_numpy(patch_fractions(labels, np.arange(len(CLASSES)), patch) * weights.astype(np.float32))
    shares = shares.flatten(0, 2)
    weight = shares.sum(-1, keepdim=True)
    losses = F.cross_entropy(SCALE * found, shares / weight, reduction="none")
    return (losses * weight[:, 0]).sum() / weight.sum()


def clip_lesson(settings: ModelSettings) -> Lesson:
    """CLIP: words and patches learn together."""
    clip, weights = DenseClip(settings.clip), rarity()
    texts = TextVectors(clip, "none")

    def loss(step: int) -> torch.Tensor:
        pixels, labels = crops(BATCH, step, _CLIP)
        return contrast(clip.image(normalised(pixels))[0], texts(wording(step)), labels, weights)

    return Lesson(clip.model, nn.ModuleList([clip]), loss)


def remote_lesson(settings: ModelSettings, clip: DenseClip) -> Lesson:
    """RemoteCLIP's first blocks: the last of these, by a head that is not kept, with the finished words of ``clip``."""
    assert settings.remote is not None
    guide, weights, side = VisionGuide(settings.remote), rarity(), settings.remote.side
    texts = TextVectors(clip.requires_grad_(False), "none")
    head = nn.Sequential(
        nn.GroupNorm(1, settings.remote.width), nn.Conv2d(settings.remote.width, clip.settings.embed, 1)
    )

    def loss(step: int) -> torch.Tensor:
        pixels, labels = crops(BATCH, step, _REMOTE)
        large: Any = F.interpolate(normalised(pixels), size=(side, side), mode="bilinear", align_corners=False)
        return contrast(head(guide(large)[-1]), texts(wording(step)), labels, weights)

    return Lesson(guide.model, nn.ModuleList([guide, head]), loss)
