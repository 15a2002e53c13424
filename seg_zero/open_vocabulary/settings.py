"""The settings of the method, with RADSeg's defaults, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seg_zero.encoders.radio_versions import PATCH
from seg_zero.encoders.templates import templates_named
from seg_zero.errors import InputError
from seg_zero.open_vocabulary.windows import check_windows

ScgaWhen = Literal["always", "multi_window"]


@dataclass(frozen=True)
class Settings:
    """How a picture is labelled. Raises InputError for values outside their range.

    scra_scaling: of the last block's attention; None leaves it ordinary.
    scga_scaling: of the aggregation over the whole picture; None leaves it out. scga_when: "always", or "multi_window":
        only where a picture took more than one window.
    crop, stride: of windows, multiples of 16; crop 0: one pass. None: the backbone's own.
    max_side: pictures with a longer side are shrunk to it before they are encoded.
    fit: instead of that and of the backbone's own size: (longer, shorter) side of the frame that a picture is scaled
        to fill, keeping its shape; benchmarks name their resolutions so.
    templates: a set of :data:`seg_zero.encoders.templates.TEMPLATES`; "none" takes texts as they are.
    denoising: a label whose highest probability is below counts as absent; 0 keeps all.
    threshold: pixels whose highest probability is below get no label; 0 labels all.
    """

    scra_scaling: float | None = 10.0
    scga_scaling: float | None = 10.0
    scga_when: ScgaWhen = "always"
    crop: int | None = None
    stride: int | None = None
    max_side: int = 2016
    fit: tuple[int, int] | None = None
    templates: str = "imagenet"
    denoising: float = 0.5
    threshold: float = 0.0

    def __post_init__(self) -> None:
        templates_named(self.templates)
        for name in ("scra_scaling", "scga_scaling"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1000:
                without = f"to do without, --{name} 0 or in Python None"
                raise InputError(f"{name} {value:g} is outside 0..1000; take 10, or {without}")
        if self.scga_when not in ("always", "multi_window"):
            raise InputError(f"scga_when {self.scga_when!r} is unknown; choose always or multi_window")
        for name in ("denoising", "threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} {getattr(self, name):g} is no probability; give a number from 0 to 1")
        if self.max_side < PATCH:
            raise InputError(f"max_side {self.max_side} is below {PATCH}; take about 1000")
        if self.fit is not None and not 0 < self.fit[1] <= self.fit[0]:
            raise InputError(
                f"fit {self.fit[0]}x{self.fit[1]} is no frame; give the longer side first, such as 2048x448"
            )
        if self.crop is not None or self.stride is not None:
            self.windows(336, 224)

    def windows(self, crop: int, stride: int) -> tuple[int, int]:
        """Crop and stride, where these are the backbone's own; a stride that was not given is never above the crop."""
        chosen = crop if self.crop is None else self.crop
        step = min(stride, chosen) if self.stride is None else self.stride
        check_windows(chosen, step)
        return chosen, step
