"""The network's settings: the published sizes, and what of the method is switched on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from seg_zero.encoders.dense_clip import ClipSettings, VisionSettings
from seg_zero.encoders.templates import templates_named
from seg_zero.errors import InputError

Fusion = Literal["separate", "concatenation", "mean"]
Aggregator = Literal["rs_fusion", "cat_seg"]

CLIP_B16 = ClipSettings(
    vision=VisionSettings(native=224, side=384, patch=16, width=768, layers=12, taken=(3, 7), heads=12),
    embed=512,
    text_width=512,
    text_layers=12,
    text_heads=8,
)
CLIP_L14 = ClipSettings(
    vision=VisionSettings(native=336, side=336, patch=14, width=1024, layers=24, taken=(7, 15), heads=16),
    embed=768,
    text_width=768,
    text_layers=12,
    text_heads=12,
)
REMOTE_B32 = VisionSettings(native=224, side=768, patch=32, width=768, layers=12, taken=(3, 7), heads=12)
DINO_B8 = VisionSettings(native=224, side=384, patch=8, width=768, layers=12, taken=(3, 7), heads=12)


@dataclass(frozen=True)
class CatSegSettings:
    """CAT-Seg's aggregator: heads, window and pooling of its layers; classes are padded to ``pad_length`` (0: not)."""

    heads: int = 4
    window: int = 12
    pooling: int = 2
    attention: Literal["linear", "full"] = "linear"
    pad_length: int = 256

    def __post_init__(self) -> None:
        if min(self.heads, self.window, self.pooling) < 1 or self.pad_length < 0:
            raise InputError(f"cat_seg has a size below 1: {self}")
        if self.window % 2:
            raise InputError(f"cat_seg.window={self.window} cannot be shifted by half; give an even number")


@dataclass(frozen=True)
class ModelSettings:
    """What the network is made of. Raises InputError for parts that do not fit together.

    remote, dino: None switches the source off. rotate: cost maps of four directions, else of one.
    layers: of the aggregator. guide_widths: channels of the guides at 2 and at 4 times CLIP's grid; guide_channels:
    what each is reduced to; decoder: channels of the two stages of the upsampling.
    templates: a set of one template of :data:`seg_zero.encoders.templates.TEMPLATES`.
    """

    clip: ClipSettings = CLIP_B16
    remote: VisionSettings | None = REMOTE_B32
    dino: VisionSettings | None = DINO_B8
    rotate: bool = True
    fusion: Fusion = "separate"
    aggregator: Aggregator = "rs_fusion"
    layers: int = 3
    hidden: int = 128
    heads: int = 8
    guide_widths: tuple[int, int] = (256, 128)
    guide_channels: tuple[int, int] = (32, 16)
    decoder: tuple[int, int] = (64, 32)
    cat_seg: CatSegSettings = field(default_factory=CatSegSettings)
    templates: str = "scene"

    def __post_init__(self) -> None:
        grid = self.clip.vision.grid
        if self.fusion not in ("separate", "concatenation", "mean"):
            raise InputError(f"fusion {self.fusion!r} is unknown; choose separate, concatenation or mean")
        if self.aggregator not in ("rs_fusion", "cat_seg"):
            raise InputError(f"aggregator {self.aggregator!r} is unknown; choose rs_fusion or cat_seg")
        if len(templates_named(self.templates)) != 1:
            raise InputError(f"templates {self.templates!r} is more than one sentence; choose scene, single or none")
        if self.remote is not None and self.remote.grid != grid:
            raise InputError(f"remote has {self.remote.grid} patches a side, CLIP {grid}; change its side or patch")
        if self.dino is not None and self.dino.grid != 2 * grid:
            raise InputError(f"dino has {self.dino.grid} patches a side, CLIP {grid}; it needs twice as many")
        if grid % 2:
            raise InputError(f"CLIP has {grid} patches a side; layers halve it: give a side with an even number")
        if self.layers < 1:
            raise InputError(f"layers={self.layers} is too small; give at least 1")
        heads = self.heads if self.aggregator == "rs_fusion" else self.cat_seg.heads
        if self.hidden < 1 or heads < 1 or self.hidden % heads:
            raise InputError(f"hidden={self.hidden} cannot be split among {heads} heads; give a multiple")
        if any(width < 16 or width % 16 for width in self.decoder):
            raise InputError(f"decoder={self.decoder} has widths that are no multiples of 16; change them")
        if not (self.guide_channels[0] < self.hidden and self.guide_channels[1] < self.decoder[0]):
            raise InputError(f"guide_channels={self.guide_channels} leave nothing of the map itself; make them smaller")

    @property
    def directions(self) -> int:
        return 4 if self.rotate else 1

    @property
    def sources(self) -> int:
        """How many guides the upsampling has: CLIP, and those switched on."""
        return 1 + (self.remote is not None) + (self.dino is not None)

    @property
    def grid(self) -> int:
        return self.clip.vision.grid


VIT_B = ModelSettings()
VIT_L = replace(VIT_B, clip=CLIP_L14, layers=2)
