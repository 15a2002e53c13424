"""How large a policy is: its dimensions and parameters, from ``config.json`` or from its published name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_zero.errors import InputError

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
_NAME = re.compile(r"(?:(qwen2-vl|qwen2\.5-vl|qwen3-vl)|seg-?zero|visionreasoner).*?(\d+)b(?![a-z0-9])")


@dataclass(frozen=True)
class Vision:
    """The image encoder: blocks of ``hidden`` channels on patches of ``patch`` pixels a side.

    ``tokens`` = merged 2 x 2; ``positions``: learnt position embeddings, ``deepstack``: additional mergers (Qwen3-VL).
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    patch: int = 14
    positions: int = 0
    deepstack: int = 0


@dataclass(frozen=True)
class Architecture:
    """What decides the size of a Qwen2-VL, Qwen2.5-VL or Qwen3-VL policy."""

    family: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    max_positions: int
    vision: Vision

    @property
    def layer_parameters(self) -> int:
        """Parameters of one decoder layer, counted as in transformers' modelling file of the family.

        Qwen2-VL and Qwen2.5-VL have biases on queries, keys and values; Qwen3-VL has none, and norms both
        queries and keys.
        """
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = 2 * self.hidden * queries + 2 * self.hidden * keys
        extra = 2 * self.head_dim if self.family == "qwen3_vl" else queries + 2 * keys
        return attention + extra + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def embedding_parameters(self) -> int:
        """Token embedding and output layer; one matrix if they are tied."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def vision_parameters(self) -> int:
        """Parameters of the image encoder and its mergers, counted as in transformers' modelling files."""
        v, new = self.vision, self.family == "qwen3_vl"
        gated = self.family == "qwen2_5_vl"  # three matrices and RMS norms; the others have two and layer norms
        norm = v.hidden if gated else 2 * v.hidden
        mlp = (3 if gated else 2) * v.hidden * v.intermediate + (2 if gated else 1) * v.intermediate + v.hidden
        block = 4 * v.hidden**2 + 4 * v.hidden + mlp + 2 * norm
        patches = 3 * 2 * v.patch**2 * v.hidden + (v.hidden if new else 0) + v.positions * v.hidden
        wide = 4 * v.hidden
        merger = wide**2 + wide + wide * self.hidden + self.hidden
        return patches + v.layers * block + merger + norm + v.deepstack * (merger + 2 * wide)

    @property
    def parameters(self) -> int:
        """All parameters: embeddings, decoder layers, last norm and image encoder."""
        text = self.embedding_parameters + self.layers * self.layer_parameters + self.hidden
        return text + self.vision_parameters

    def lora_parameters(self, rank: int) -> int:
        """Parameters of adapters of this rank on all linear layers of the decoder: rank x (inputs + outputs) each.

        Hu et al. 2021, arXiv 2106.09685, section 4.1.
        """
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        sides = 2 * (self.hidden + queries) + 2 * (self.hidden + keys) + 3 * (self.hidden + self.intermediate)
        return self.layers * rank * sides


def read_architecture(settings: Mapping[str, Any]) -> Architecture:
    """Dimensions in a ``config.json``, text settings nested or (as published for Qwen2.5-VL) at the top.

    Raises InputError for another model family or a missing value.
    """
    family = settings.get("model_type")
    if family not in FAMILIES:
        raise InputError(f"model_type {family!r} is none of {', '.join(FAMILIES)}; its size is not known")
    text, vision = {**settings, **settings.get("text_config", {})}, settings.get("vision_config", {})
    try:
        width = vision["embed_dim"] if family == "qwen2_vl" else vision["hidden_size"]
        inner = round(width * vision.get("mlp_ratio", 4)) if family == "qwen2_vl" else vision["intermediate_size"]
        return Architecture(
            family=family,
            layers=text["num_hidden_layers"],
            hidden=text["hidden_size"],
            intermediate=text["intermediate_size"],
            heads=text["num_attention_heads"],
            kv_heads=text["num_key_value_heads"],
            head_dim=text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"],
            vocabulary=text["vocab_size"],
            tied=bool(settings.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
            max_positions=text.get("max_position_embeddings", 0),
            vision=Vision(
                layers=vision["depth"],
                hidden=width,
                intermediate=inner,
                heads=vision["num_heads"],
                patch=vision.get("patch_size", 14),
                positions=vision.get("num_position_embeddings", 0),
                deepstack=len(vision.get("deepstack_visual_indexes", [])),
            ),
        )
    except KeyError as error:
        raise InputError(f"config.json of a {family} model has no {error}; the file is not complete") from error


def _published(family: str, text: tuple[int, int, int, int, int, int, int], tied: bool, vision: Vision) -> Architecture:
    positions = {"qwen2_vl": 32768, "qwen2_5_vl": 128000, "qwen3_vl": 262144}[family]
    return Architecture(family, *text, tied, positions, vision)


_V2 = Vision(32, 1280, 5120, 16)
_V25 = Vision(32, 1280, 3420, 16)
_V3_SMALL = Vision(24, 1024, 4096, 16, 16, 2304, 3)
_V3 = Vision(27, 1152, 4304, 16, 16, 2304, 3)
# Published models, as their config.json says: layers, hidden, intermediate, heads, kv heads, head size, vocabulary.
PUBLISHED = {
    ("qwen2-vl", 2): _published("qwen2_vl", (28, 1536, 8960, 12, 2, 128, 151936), True, _V2),
    ("qwen2-vl", 7): _published("qwen2_vl", (28, 3584, 18944, 28, 4, 128, 152064), False, _V2),
    ("qwen2.5-vl", 3): _published("qwen2_5_vl", (36, 2048, 11008, 16, 2, 128, 151936), True, _V25),
    ("qwen2.5-vl", 7): _published("qwen2_5_vl", (28, 3584, 18944, 28, 4, 128, 152064), False, _V25),
    ("qwen3-vl", 2): _published("qwen3_vl", (28, 2048, 6144, 16, 8, 128, 151936), True, _V3_SMALL),
    ("qwen3-vl", 4): _published("qwen3_vl", (36, 2560, 9728, 32, 8, 128, 151936), True, _V3_SMALL),
    ("qwen3-vl", 8): _published("qwen3_vl", (36, 4096, 12288, 32, 8, 128, 151936), False, _V3),
}


def find_architecture(model: str) -> Architecture | None:
    """The dimensions of a model folder, a hub id in the local cache, or a name such as ``Seg-Zero-7B``; else None.

    Never asks the network. Raises InputError for a ``config.json`` that cannot be used.
    """
    file: Path | None = Path(model).expanduser() / "config.json"
    if file is not None and not file.is_file():
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(model, "config.json") if re.fullmatch(r"[\w.-]+/[\w.-]+", model) else None
        file = Path(cached) if isinstance(cached, str) else None
    if file is not None:
        try:
            return read_architecture(json.loads(file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise InputError(f"{file}: {error}") from error
    found = _NAME.search(model.lower())
    return PUBLISHED.get((found[1] or "qwen2.5-vl", int(found[2]))) if found else None
