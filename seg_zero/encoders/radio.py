"""RADIO backbones (C-RADIOv3 and v4) with their adaptor heads, on timm's classes.

encoder = load_radio("c-radio_v3-b")                      # or a .pth.tar, or a converted folder
features = encoder.features(images)                       # B x 3 x H x W in 0..1 to B x D x H/16 x W/16
text_space = encoder.adaptor("siglip2").summary(tokens)   # ... x D to ... x E
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.naflexvit import NaFlexVit
from torch import nn

from seg_zero.devices import choose_device, choose_dtype
from seg_zero.encoders.adaptors import head_of
from seg_zero.encoders.radio_model import empty_backbone
from seg_zero.encoders.radio_versions import (
    PATCH,
    VERSIONS,
    WEIGHTS,
    AdaptorInfo,
    Description,
    PositionRule,
    read_description,
)
from seg_zero.errors import InputError, one_line
from seg_zero.hub import download

# OpenAI CLIP's means and deviations of RGB in 0..1.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TINY = "tiny"
TINY_FOLDER = Path(__file__).parents[1] / "models" / "tiny_radio"
# RADSeg's names for adaptors; checkpoints have one or the other.
_ALIASES = {"siglip2": ("siglip2", "siglip2-g"), "siglip2-g": ("siglip2-g", "siglip2")}


@dataclass(frozen=True)
class Adaptor:
    """The heads to one teacher's space. summary: made for the class token; feature: for patches, if there is one."""

    name: str
    info: AdaptorInfo
    summary: nn.Module
    feature: nn.Module | None


class RadioEncoder:
    """A frozen backbone in eval mode. ``backbone`` is timm's model; ``width`` the channels of a patch."""

    def __init__(self, backbone: NaFlexVit, description: Description, adaptors: dict[str, Adaptor], name: str) -> None:
        self.backbone, self.description, self.adaptors, self.name = backbone, description, adaptors, name
        self.longest_side = description.architecture.grid * PATCH
        self.width = description.architecture.embed_dim
        weight = backbone.embeds.proj.weight
        self._mean = torch.tensor(MEAN, device=weight.device).reshape(1, 3, 1, 1)
        self._std = torch.tensor(STD, device=weight.device).reshape(1, 3, 1, 1)

    @property
    def device(self) -> torch.device:
        return self._mean.device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.backbone.embeds.proj.weight.dtype
        return dtype

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Spatial features of RGB images in 0..1, B x 3 x H x W with sides that are multiples of 16 up to 2048."""
        height, width = images.shape[-2:]
        if height % PATCH or width % PATCH or not 0 < max(height, width) <= self.longest_side:
            raise InputError(
                f"images of {width}x{height} do not fit; sides are multiples of {PATCH} up to {self.longest_side}"
            )
        normal = (images.to(self.device) - self._mean) / self._std
        tokens: Any = self.backbone.forward_features(normal.to(self.dtype))
        patches = tokens[:, self.backbone.num_prefix_tokens :]
        return patches.transpose(1, 2).reshape(len(images), self.width, height // PATCH, width // PATCH)

    def adaptor(self, name: str) -> Adaptor:
        """An adaptor by its name in the checkpoint; "siglip2" and "siglip2-g" stand for each other.

        Raises InputError with the names that there are.
        """
        for candidate in _ALIASES.get(name, (name,)):
            if candidate in self.adaptors:
                return self.adaptors[candidate]
        there = ", ".join(self.adaptors) or "none"
        raise InputError(f"backbone {self.name} has no adaptor {name!r}; it has {there}")


def load_radio(
    path_or_name: str | Path,
    device: str | None = None,
    dtype: str | None = None,
    position_rule: PositionRule = "torch_hub",
) -> RadioEncoder:
    """A backbone and all its adaptors.

    path_or_name: "tiny", the embedded backbone, which knows synthetic shapes alone; a published version such as
        "c-radio_v3-b", which is downloaded; a published checkpoint (``.pth.tar``), converted once; or a folder that
        :func:`seg_zero.encoders.radio_convert.convert` wrote.
    device, dtype: see :mod:`seg_zero.devices`.
    position_rule: "torch_hub" as NVlabs' code has resized positions since 2025-06-28, and RADSeg with it; "released"
        as the version was released.
    Raises InputError for a name that is none of these, and for damaged files.
    """
    folder = find_radio(path_or_name)
    description = read_description(folder)
    align = description.align_corners(position_rule)
    where = choose_device(device)
    try:
        state = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"backbone {folder}: {WEIGHTS} cannot be read ({one_line(error)}); convert the checkpoint again"
        ) from error
    backbone = empty_backbone(description.architecture, align)
    weights = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    try:
        backbone.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise InputError(
            f"backbone {folder}: the weights do not fit its {description.version or 'radio.json'}"
        ) from error
    precision = choose_dtype(dtype, where)
    adaptors = {}
    for name, info in description.adaptors.items():
        if info.model and (folder / info.model).is_dir():  # a text tower beside the backbone
            info = replace(info, model=str(folder / info.model))
        summary = head_of(_under(state, f"adaptors.{name}.summary."), f"{name} (summary)")
        features = _under(state, f"adaptors.{name}.feature.")
        feature = head_of(features, f"{name} (feature)").to(where, precision) if features else None
        adaptors[name] = Adaptor(name, info, summary.to(where, precision), feature)
    backbone.requires_grad_(False).eval().to(where, precision)
    return RadioEncoder(backbone, description, adaptors, str(path_or_name))


def _under(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def backbone_warning(path_or_name: str | Path) -> str | None:
    """What is to be said about a backbone before its first label, or None."""
    if str(path_or_name) != TINY:
        return None
    return "the embedded backbone knows only synthetic shapes, and its labels of anything else mean nothing"


def find_radio(path_or_name: str | Path) -> Path:
    """The folder of a backbone, for :func:`load_radio`; downloads and converts where needed."""
    name = str(path_or_name)
    if name == TINY:
        return TINY_FOLDER
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    from seg_zero.encoders.radio_convert import converted

    if path.is_file():
        return converted(path)
    if name in VERSIONS:
        version = VERSIONS[name]
        return converted(download("backbone", version.repository, version.checkpoint))
    known = ", ".join((TINY, *VERSIONS))
    raise InputError(f"backbone {name} is no file, no folder and no version; known versions are {known}")
