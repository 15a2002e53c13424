"""Writes weights as transformers' ``save_pretrained`` would, one output file in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from seg_zero.errors import InputError, one_line
from seg_zero.export.shards import LazyTensor
from seg_zero.files import write_text


def _meta_model(files: Path, weights: Mapping[str, LazyTensor]) -> Any:
    """The model of ``files/config.json`` without memory for its weights, with the shapes and dtypes of ``weights``."""
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    source = files / "config.json"
    dtype = next((tensor.dtype for tensor in weights.values() if tensor.dtype.is_floating_point), None)
    if dtype is None:
        raise InputError(f"the shards for {source} hold no weights; give a checkpoint that training wrote")
    try:
        config = AutoConfig.from_pretrained(files)
        with torch.device("meta"):
            model: Any = AutoModelForImageTextToText.from_config(config, dtype=dtype)
        empty = {name: torch.empty(t.shape, dtype=t.dtype, device="meta") for name, t in weights.items()}
        absent, unknown = model.load_state_dict(empty, strict=False, assign=True)
    except (ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"{source} does not fit the shards ({one_line(error)}); take it from the trained model"
        ) from error
    model.tie_weights()
    missing = set(absent) - set(getattr(model, "all_tied_weights_keys", None) or {})
    if unknown or missing:
        raise InputError(
            f"the shards do not fit {source}: missing {sorted(missing)[:3]}, unknown {sorted(unknown)[:3]}; "
            "take config.json of the trained model"
        )
    return model


def _saved_names(model: Any) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """What ``save_pretrained`` would write: (meta tensors by their name on disk, the model's name of each).

    Of tied weights one is left; names may change on disk. Raises InputError for a model class that also
    changes values on disk (none of the supported families does).
    """
    from transformers.core_model_loading import dot_natural_key, revert_weight_conversion
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    kept = remove_tied_weights_from_state_dict(model.state_dict(), model)
    own = {id(tensor): name for name, tensor in kept.items()}
    # In the order of models that were loaded, as trained ones are: it decides which weights share a file.
    saved = revert_weight_conversion(model, dict(sorted(kept.items(), key=lambda item: dot_natural_key(item[0]))))
    if len(saved) != len(kept) or any(id(tensor) not in own for tensor in saved.values()):
        raise InputError(f"{type(model).__name__} is stored in another form than it is trained in; not supported")
    return saved, {name: own[id(tensor)] for name, tensor in saved.items()}


def write_model(files: Path, weights: Mapping[str, LazyTensor], target: Path, max_shard_size: str) -> None:
    """Write configuration and weights into ``target``, a folder that exists.

    files: folder of the model's config.json.
    weights: by the model's own names; each is loaded once, when its file is written.
    max_shard_size: of one weights file, such as "5GB". More than one get an index, as transformers writes it.

    The files are those that ``save_pretrained`` of transformers 5.9.0 writes of a loaded model, byte by byte.
    """
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    model = _meta_model(files, weights)
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(target)
    model.generation_config.save_pretrained(target)
    saved, own_names = _saved_names(model)
    split = split_torch_state_dict_into_shards(
        saved, filename_pattern="model{suffix}.safetensors", max_shard_size=max_shard_size
    )
    for file, names in split.filename_to_tensors.items():
        save_file({name: weights[own_names[name]].load() for name in names}, target / file, metadata={"format": "pt"})
    if split.is_sharded:
        facts = {"total_parameters": model.num_parameters(), **split.metadata}
        index = {"metadata": facts, "weight_map": split.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        write_text(target / "model.safetensors.index.json", text)
