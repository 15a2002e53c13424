"""Every fact about a model family, in one table. A new family is a line here and a file in configs/policy/.

A family is what ``model_type`` in a model's config.json says. docs/policies.md tells how to add one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seg_zero.errors import InputError
from seg_zero.prompting import PromptSpec

DEFAULT_FAMILY = "qwen2_5_vl"
_PUBLISHED_WORDS = re.compile(r"seg[-_]?zero|visionreasoner")
# Seg-Zero-3B, Seg-Zero-7B-Best-on-ReasonSegTest, VisionReasoner-7B and so on.
_PUBLISHED_NAME = re.compile(rf"(?:{_PUBLISHED_WORDS.pattern})[-_]\d+(?:\.\d+)?b(?![a-z0-9])")
PUBLISHED_IMAGE_SIZE = 840  # pixels, rounded to whole image tokens of the family


@dataclass(frozen=True)
class SizeFormula:
    """How the parameters of a family are counted from its dimensions, without building the model.

    The counts themselves are in :mod:`seg_zero.policy.model_size`.

    query_key_norms: normalised queries and keys in place of biases on queries, keys and values.
    gated_vision: vision blocks with three matrices and RMS norms in place of two matrices and layer norms.
    patch_bias: the patch embedding has a bias.
    vision_width: the key of ``vision_config`` that holds the width of the vision tower.
    """

    query_key_norms: bool = False
    gated_vision: bool = False
    patch_bias: bool = False
    vision_width: str = "hidden_size"


@dataclass(frozen=True)
class Family:
    """What differs between policy families.

    token_pixels: side in pixels of the square that becomes one image token (patch size times merge size), so that
        image sizes are multiples of it.
    coordinates: the convention of answers that its pre-training taught it, one of
        :data:`seg_zero.prompting.COORDINATES`.
    hub_name: what the names of published models contain, in lower case.
    vision_tower: the name of the module that encodes images; ``policy.freeze_vision`` and the default of
        ``policy.lora.exclude`` go by it.
    size: how its parameters are counted; None: transformers builds the model, without memory, and they are counted.
    published: settings as in config.json of published models, by billions of parameters, for estimates before a
        model is downloaded.
    """

    token_pixels: int
    coordinates: str
    hub_name: str
    vision_tower: str = "visual"
    size: SizeFormula | None = None
    published: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def lora_exclude(self) -> str:
        """A regular expression over the names of the modules that get no adapters by default."""
        return f".*{self.vision_tower}.*"

    @property
    def image_size(self) -> int:
        """The published side of images, in pixels, as the nearest whole number of image tokens."""
        return round(PUBLISHED_IMAGE_SIZE / self.token_pixels) * self.token_pixels


def _text(layers: int, hidden: int, intermediate: int, heads: int, kv_heads: int, vocabulary: int) -> dict[str, int]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": 128,
        "vocab_size": vocabulary,
    }


def _vision(depth: int, hidden: int, intermediate: int, **more: Any) -> dict[str, Any]:
    return {"depth": depth, "hidden_size": hidden, "intermediate_size": intermediate, "num_heads": 16, **more}


def _published(text: dict[str, int], vision: dict[str, Any], tied: bool, positions: int) -> dict[str, Any]:
    settings = {**text, "max_position_embeddings": positions}
    return {"text_config": settings, "vision_config": vision, "tie_word_embeddings": tied}


_QWEN2_VISION = {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16}
_QWEN2_5_VISION = _vision(32, 1280, 3420)
_DEEP = {"patch_size": 16, "num_position_embeddings": 2304, "deepstack_visual_indexes": [0, 1, 2]}
_QWEN3_SMALL, _QWEN3_LARGE = _vision(24, 1024, 4096, **_DEEP), _vision(27, 1152, 4304, **_DEEP)

FAMILIES: dict[str, Family] = {
    "qwen2_vl": Family(
        token_pixels=28,
        coordinates="pixels",
        hub_name="qwen2-vl",
        size=SizeFormula(vision_width="embed_dim"),
        published={
            2: _published(_text(28, 1536, 8960, 12, 2, 151936), _QWEN2_VISION, True, 32768),
            7: _published(_text(28, 3584, 18944, 28, 4, 152064), _QWEN2_VISION, False, 32768),
        },
    ),
    "qwen2_5_vl": Family(
        token_pixels=28,
        coordinates="pixels",
        hub_name="qwen2.5-vl",
        size=SizeFormula(gated_vision=True),
        published={
            3: _published(_text(36, 2048, 11008, 16, 2, 151936), _QWEN2_5_VISION, True, 128000),
            7: _published(_text(28, 3584, 18944, 28, 4, 152064), _QWEN2_5_VISION, False, 128000),
        },
    ),
    "qwen3_vl": Family(
        token_pixels=32,
        coordinates="thousand",
        hub_name="qwen3-vl",
        size=SizeFormula(query_key_norms=True, patch_bias=True),
        published={
            2: _published(_text(28, 2048, 6144, 16, 8, 151936), _QWEN3_SMALL, True, 262144),
            4: _published(_text(36, 2560, 9728, 32, 8, 151936), _QWEN3_SMALL, True, 262144),
            8: _published(_text(36, 4096, 12288, 32, 8, 151936), _QWEN3_LARGE, False, 262144),
        },
    ),
    "glm4v": Family(
        token_pixels=28,
        coordinates="thousand",
        hub_name="glm-4.1v",
        published={9: _published(_text(40, 4096, 13696, 32, 2, 151552), {}, False, 65536)},
    ),
}


def family_named(name: str) -> Family:
    """The family of a ``model_type``. Raises InputError for one that is not supported."""
    try:
        return FAMILIES[name]
    except KeyError:
        raise InputError(f"policy family {name!r} is not supported; choose one of {', '.join(FAMILIES)}") from None


def name_of(model: str) -> str:
    """The name that a model goes by, whatever folder it is in: the last part of its hub id or path, in lower case.

    A snapshot in the hub's cache (``models--USER--NAME/snapshots/COMMIT``) has the name of its repository.
    """
    parts = Path(os.path.abspath(model)).parts
    if len(parts) > 2 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
        return parts[-3].rpartition("--")[2].lower()
    return parts[-1].lower()


def format_by_name(model: str) -> str | None:
    """The answer format, "single" or "multi", that a name after Seg-Zero or VisionReasoner speaks of; else None."""
    found = set(_PUBLISHED_WORDS.findall(name_of(model)))
    return None if not found else "multi" if "visionreasoner" in found else "single"


def is_published(model: str) -> bool:
    """Whether the name is that of a published checkpoint of Seg-Zero or VisionReasoner."""
    return _PUBLISHED_NAME.match(name_of(model)) is not None


def family_by_hub_name(model: str) -> str | None:
    """The family that the name of a model speaks of, such as ``Qwen/Qwen3-VL-4B-Instruct``; None if it names none."""
    name = name_of(model)
    return next((family for family, known in FAMILIES.items() if known.hub_name in name), None)


def published_settings(model: str) -> dict[str, Any] | None:
    """Settings as in config.json of a published model, by its name; None for one that is not in the table.

    Names such as Seg-Zero-7B and VisionReasoner-7B, which were trained from Qwen2.5-VL, count as that.
    """
    name = name_of(model)
    family = family_by_hub_name(name)
    if family is None and _PUBLISHED_WORDS.search(name):
        family = DEFAULT_FAMILY
    found = re.search(r"(?<![0-9.])(\d+)b(?![a-z0-9])", name)
    if family is None or found is None or int(found[1]) not in FAMILIES[family].published:
        return None
    return {"model_type": family, **FAMILIES[family].published[int(found[1])]}


def spec_of_stored_images(side: int) -> PromptSpec:
    """How images are stretched to ``side`` for a dataset file, which policies of any family may read.

    Raises InputError for a side that is no whole number of image tokens for any family.
    """
    tokens = sorted({family.token_pixels for family in FAMILIES.values()})
    token = next((token for token in tokens if side % token == 0), None)
    if token is None:
        sizes = " or ".join(str(round(PUBLISHED_IMAGE_SIZE / token) * token) for token in tokens)
        raise InputError(
            f"image_size {side} is a multiple of none of {', '.join(map(str, tokens))}, the sides of image tokens in "
            f"pixels; try {sizes}"
        )
    return PromptSpec(image_size=side, token_pixels=token)


def spec_of_family(
    template: str,
    image_size: int,
    family: str = DEFAULT_FAMILY,
    coordinates: str | None = None,
    *,
    text: str | None = None,
    newline: bool = False,
    normalisation: str = "plain",
) -> PromptSpec:
    """Prompt settings for a model of ``family`` (a ``model_type``); ``coordinates`` None: the family's own.

    The others are those of :class:`PromptSpec`. All are the keys of ``data.prompt`` in a training configuration.
    Raises InputError for a family that is not supported, and for settings that do not fit it.
    """
    known = family_named(family)
    return PromptSpec(
        template,
        image_size,
        coordinates or known.coordinates,
        known.token_pixels,
        text=text,
        newline=newline,
        normalisation=normalisation,
    )
