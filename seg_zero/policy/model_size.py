"""How large a policy is: its dimensions and parameters, from ``config.json`` or from its published name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from seg_zero.errors import InputError
from seg_zero.files import read_json
from seg_zero.policy.families import SizeFormula, family_named, published_settings


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
class Counts:
    """Parameters of a model that was built: of one decoder layer, token embedding and output, vision tower, all.

    ``lora_per_rank``: of adapters of rank 1 on all linear layers of the decoder.
    """

    layer: int
    embeddings: int
    vision: int
    everything: int
    lora_per_rank: int


@dataclass(frozen=True)
class Architecture:
    """What decides the size of a policy.

    Parameters are counted by the formulas of its family, or, where the family has none, in ``built``.
    """

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
    built: Counts | None = None

    @property
    def _formula(self) -> SizeFormula:
        formula = family_named(self.family).size
        assert formula is not None, f"{self.family} is counted by building it"
        return formula

    @property
    def layer_parameters(self) -> int:
        """Parameters of one decoder layer, counted as in transformers' modelling file of the family.

        Either queries, keys and values have biases, or queries and keys are normalised.
        """
        if self.built is not None:
            return self.built.layer
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = 2 * self.hidden * queries + 2 * self.hidden * keys
        extra = 2 * self.head_dim if self._formula.query_key_norms else queries + 2 * keys
        return attention + extra + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def embedding_parameters(self) -> int:
        """Token embedding and output layer; one matrix if they are tied."""
        if self.built is not None:
            return self.built.embeddings
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def vision_parameters(self) -> int:
        """Parameters of the image encoder and its mergers, counted as in transformers' modelling files."""
        if self.built is not None:
            return self.built.vision
        v, formula = self.vision, self._formula
        gated = formula.gated_vision  # three matrices and RMS norms; the others have two and layer norms
        norm = v.hidden if gated else 2 * v.hidden
        mlp = (3 if gated else 2) * v.hidden * v.intermediate + (2 if gated else 1) * v.intermediate + v.hidden
        block = 4 * v.hidden**2 + 4 * v.hidden + mlp + 2 * norm
        patches = 3 * 2 * v.patch**2 * v.hidden + (v.hidden if formula.patch_bias else 0) + v.positions * v.hidden
        wide = 4 * v.hidden
        merger = wide**2 + wide + wide * self.hidden + self.hidden
        return patches + v.layers * block + merger + norm + v.deepstack * (merger + 2 * wide)

    @property
    def parameters(self) -> int:
        """All parameters: embeddings, decoder layers, last norm and image encoder."""
        if self.built is not None:
            return self.built.everything
        text = self.embedding_parameters + self.layers * self.layer_parameters + self.hidden
        return text + self.vision_parameters

    def lora_parameters(self, rank: int) -> int:
        """Parameters of adapters of this rank on all linear layers of the decoder: rank x (inputs + outputs) each.

        Hu et al. 2021, arXiv 2106.09685, section 4.1.
        """
        if self.built is not None:
            return rank * self.built.lora_per_rank
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        sides = 2 * (self.hidden + queries) + 2 * (self.hidden + keys) + 3 * (self.hidden + self.intermediate)
        return self.layers * rank * sides


def read_architecture(settings: Mapping[str, Any]) -> Architecture:
    """Dimensions in a ``config.json``, text settings nested or (as published for Qwen2.5-VL) at the top.

    Raises InputError for a family that is not supported or a missing value.
    """
    family = str(settings.get("model_type"))
    known = family_named(family)
    if known.size is None:
        return _built_architecture(json.dumps(dict(settings), sort_keys=True))
    text, vision = {**settings, **settings.get("text_config", {})}, settings.get("vision_config", {})
    try:
        width = vision[known.size.vision_width]
        inner = vision["intermediate_size"] if "mlp_ratio" not in vision else round(width * vision["mlp_ratio"])
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


@lru_cache(maxsize=4)
def _built_architecture(settings: str) -> Architecture:
    """The dimensions of a model of any class, counted in what transformers builds of it without memory.

    ``settings``: the text of its config.json. Building takes seconds, so the last few are kept.
    The decoder's layers must be alike, as those of all dense models are.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    name = json.loads(settings)["model_type"]
    vision_tower = family_named(name).vision_tower
    try:
        config: Any = CONFIG_MAPPING[name].from_dict(json.loads(settings))
        with torch.device("meta"):
            model: Any = AutoModelForImageTextToText.from_config(config)
    except (KeyError, TypeError, ValueError, AttributeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"transformers cannot build a {name} model from its config.json ({reason}); copy it again from the model"
        ) from error
    text = config.get_text_config()
    tower = next((m for n, m in model.named_modules() if n.split(".")[-1] == vision_tower), None)
    if tower is None:
        raise InputError(f"{type(model).__name__} has no module {vision_tower!r}; correct vision_tower of {name}")
    decoder = model.get_decoder()
    linear = [m for m in decoder.modules() if isinstance(m, torch.nn.Linear)]
    embeddings = {id(m.weight): m.weight for m in (model.get_input_embeddings(), model.get_output_embeddings())}
    return Architecture(
        family=name,
        layers=len(decoder.layers),
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vocabulary=text.vocab_size,
        tied=len(embeddings) == 1,
        max_positions=text.max_position_embeddings,
        vision=_vision_of(tower, config.vision_config),
        built=Counts(
            layer=_count(decoder.layers[0]),
            embeddings=sum(weight.numel() for weight in embeddings.values()),
            vision=_count(tower),
            everything=_count(model),
            lora_per_rank=sum(m.in_features + m.out_features for m in linear),
        ),
    )


def _vision_of(tower: Any, config: Any) -> Vision:
    """A vision tower's blocks: linear layers take ``hidden`` values each, but the last of a block ``intermediate``."""
    import torch

    blocks = max((m for m in tower.modules() if isinstance(m, torch.nn.ModuleList)), key=len)
    linear = [m for m in blocks[0].modules() if isinstance(m, torch.nn.Linear)]
    hidden, intermediate = min(m.in_features for m in linear), max(m.in_features for m in linear)
    heads = config.num_heads if hasattr(config, "num_heads") else config.num_attention_heads
    return Vision(len(blocks), hidden, intermediate, heads, config.patch_size)


def _count(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters())


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
            return read_architecture(read_json(file))
        except ValueError as error:
            raise InputError(f"{file}: {error}") from error
    settings = published_settings(model)
    return None if settings is None else read_architecture(settings)
