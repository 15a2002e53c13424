"""Facts of the published RADIO backbones, and the folder that our loader reads. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from seg_zero.errors import InputError, one_line
from seg_zero.files import read_json

PATCH = 16  # pixels of a patch's side
DESCRIPTION, WEIGHTS = "radio.json", "model.safetensors"
# How the table of positions is resized. NVlabs' code, which torch.hub gives, has used align_corners=False for every
# version since 2025-06-28; C-RADIOv3 was released with True.
PositionRule = Literal["torch_hub", "released"]
POSITION_RULES: tuple[PositionRule, ...] = ("torch_hub", "released")


@dataclass(frozen=True)
class Architecture:
    """The numbers that timm's ``NaFlexVitCfg`` needs; prefix tokens are one class token and ``reg_tokens``.

    grid: rows and columns of the table of positions; init_values: of LayerScale, None without it.
    """

    embed_dim: int
    depth: int
    num_heads: int
    reg_tokens: int = 7
    mlp_ratio: float = 4.0
    init_values: float | None = None
    grid: int = 128


@dataclass(frozen=True)
class Version:
    """A published backbone: the timm model of its architecture, its repository and checkpoint on the hub."""

    timm: str
    repository: str
    checkpoint: str
    architecture: Architecture
    released_align_corners: bool


VERSIONS: dict[str, Version] = {
    "c-radio_v3-b": Version(
        "naflexvit_base_patch16_radio_v3",
        "nvidia/C-RADIOv3-B",
        "c-radio_v3-b_half.pth.tar",
        Architecture(768, 12, 12, init_values=1e-5),
        True,
    ),
    "c-radio_v3-l": Version(
        "naflexvit_large_patch16_radio_v3",
        "nvidia/C-RADIOv3-L",
        "c-radio-v3_l_half.pth.tar",
        Architecture(1024, 24, 16, init_values=1e-5),
        True,
    ),
    "c-radio_v3-h": Version(
        "naflexvit_huge_patch16_radio_v3",
        "nvidia/C-RADIOv3-H",
        "c-radio_v3-h_half.pth.tar",
        Architecture(1280, 32, 16),
        True,
    ),
    "c-radio_v3-g": Version(
        "naflexvit_giant_patch16_radio_v3",
        "nvidia/C-RADIOv3-g",
        "c-radio_v3-g_half.pth.tar",
        Architecture(1536, 40, 24),
        True,
    ),
    "c-radio_v4-so400m": Version(
        "naflexvit_so400m_patch16_radio_v4",
        "nvidia/C-RADIOv4-SO400M",
        "c-radio_v4-so400m_half.pth.tar",
        Architecture(1152, 27, 16, reg_tokens=9, mlp_ratio=4304 / 1152),
        False,
    ),
    "c-radio_v4-h": Version(
        "naflexvit_huge_patch16_radio_v4",
        "nvidia/C-RADIOv4-H",
        "c-radio_v4-h_half.pth.tar",
        Architecture(1280, 32, 16, reg_tokens=9),
        False,
    ),
}
# The names of published text towers in checkpoints.
SIGLIP_TOWERS = {
    "siglip2-so400m": "google/siglip2-so400m-patch16-naflex",
    "siglip2-g-384": "google/siglip2-giant-opt-patch16-384",
}


@dataclass(frozen=True)
class AdaptorInfo:
    """What an adaptor's teacher was: its type ("siglip2", "open_clip", "sam"...), model and pretrained weights.

    For a text tower ``model`` is a hub id, a name of open_clip, or a folder beside the description.
    """

    type: str
    model: str = ""
    pretrained: str = ""


@dataclass(frozen=True)
class ImageDefaults:
    """How pictures go in unless the user says otherwise: window and stride in pixels, and the shorter side that a
    picture is resized to (None: as it is)."""

    crop: int = 336
    stride: int = 224
    short_side: int | None = None


@dataclass(frozen=True)
class Description:
    """``radio.json``: the version ("" for one of our own), its architecture and its adaptors by name."""

    version: str
    architecture: Architecture
    adaptors: dict[str, AdaptorInfo] = field(default_factory=dict)
    image: ImageDefaults = ImageDefaults()

    def align_corners(self, rule: PositionRule) -> bool:
        """How the table of positions is resized. Raises InputError for another rule."""
        if rule not in POSITION_RULES:
            raise InputError(f"position rule {rule!r} is unknown; choose one of {', '.join(POSITION_RULES)}")
        return rule == "released" and self.version in VERSIONS and VERSIONS[self.version].released_align_corners

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_description(folder: Path) -> Description:
    """``radio.json`` of a folder. Raises InputError if it or the weights are missing or damaged."""
    path = folder / DESCRIPTION
    for file in (path, folder / WEIGHTS):
        if not file.is_file():
            raise InputError(
                f"backbone {folder} has no {file.name}; give a RADIO checkpoint (.pth.tar) or its conversion"
            )
    try:
        raw = read_json(path)
        adaptors = {name: AdaptorInfo(**info) for name, info in raw["adaptors"].items()}
        image = ImageDefaults(**raw.get("image", {}))
        return Description(raw["version"], Architecture(**raw["architecture"]), adaptors, image)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no description of a RADIO backbone ({one_line(error)}); convert it again"
        ) from error


def version_of(architecture: Architecture) -> str:
    """The published version with this width, depth and number of tokens. Raises InputError if there is none."""
    for name, version in VERSIONS.items():
        known = version.architecture
        if (known.embed_dim, known.depth, known.reg_tokens) == (
            architecture.embed_dim,
            architecture.depth,
            architecture.reg_tokens,
        ):
            return name
    sizes = ", ".join(VERSIONS)
    raise InputError(
        f"a backbone of width {architecture.embed_dim}, {architecture.depth} blocks and {architecture.reg_tokens + 1} "
        f"prefix tokens is no published RADIO; known are {sizes}"
    )
