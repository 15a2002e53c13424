"""Whether the weights in a policy's folder are those that its configuration asks for.

``python -m seg_zero.policy.weights FOLDER`` says so in a process of its own, for callers that import no transformers.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seg_zero.errors import BAD_INPUT, InputError, one_line
from seg_zero.files import read_json
from seg_zero.policy.model_files import WEIGHTS

# What wrappers of a training put before the names of weights.
_WRAPPERS = ("module.", "_orig_mod.", "base_model.model.", "_fsdp_wrapped_module.")
_LAYER = re.compile(r"\.(layers|blocks)\.[0-9]+\.")


def check_names(missing: Iterable[str], unexpected: Iterable[str], model: str) -> None:
    """Raise InputError if weights of a model are missing in its files, or the files have layers that it lacks."""
    missing, unexpected = sorted(missing), sorted(unexpected)
    if not missing and not any(map(_LAYER.search, unexpected)):
        return
    parts = [f"{len(missing)} weights are missing (such as {missing[0]})"] if missing else []
    if unexpected:
        parts.append(f"{len(unexpected)} have unexpected names (such as {unexpected[0]})")
    prefix = next((prefix for prefix in _WRAPPERS if unexpected and unexpected[0].startswith(prefix)), None)
    remedy = "check that the folder holds all files of this model"
    if prefix is not None:
        remedy = f"the names begin with {prefix!r}, which a wrapper of the training added; save the weights without it"
    raise InputError(f"policy {model} cannot be used: {' and '.join(parts)}; {remedy}")


def check_loaded(loaded: Mapping[str, Any], model: str) -> None:
    """:func:`check_names` for what transformers returns with ``output_loading_info=True``; tied weights count as
    loaded there."""
    check_names(loaded["missing_keys"], loaded["unexpected_keys"], model)


def _shapes(folder: Path) -> dict[str, list[int]]:
    """The shape of every weight in a folder, from the heads of its files."""
    from safetensors import SafetensorError, safe_open

    names = [WEIGHTS[0]]
    try:
        if not (folder / WEIGHTS[0]).is_file():
            names = sorted(set(read_json(folder / WEIGHTS[1])["weight_map"].values()))
        found: dict[str, list[int]] = {}
        for name in names:
            with safe_open(folder / name, "np") as file:
                found.update({key: file.get_slice(key).get_shape() for key in file.keys()})  # noqa: SIM118
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        raise InputError(
            f"policy {folder}: its weights cannot be read ({one_line(error)}); copy {', '.join(names)} again"
        ) from error
    return found


def check_weights(folder: Path) -> None:
    """Compare names and shapes of the weights in a folder with its config.json, without reading the weights.

    Quantized weights, whose names are the quantizer's, are left to whoever loads them.
    Raises InputError for those that are missing or of another shape, and for layers that the configuration lacks.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    shapes = _shapes(folder)
    try:
        config: Any = AutoConfig.from_pretrained(folder)
        if getattr(config, "quantization_config", None) is not None:
            return
        with torch.device("meta"):
            model: Any = AutoModelForImageTextToText.from_config(config)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"policy {folder}: its config.json cannot be used ({one_line(error)})") from error
    wanted = model.state_dict()
    mapping = get_model_conversion_mapping(model)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    there: dict[str, list[int]] = {}
    for name, shape in shapes.items():
        # As transformers does when it loads: published files have names of earlier versions.
        own, converted = rename_source_key(name, renamings, converters, model.base_model_prefix, wanted)
        if own not in wanted and name in wanted:
            own, converted = name, None
        there[own] = shape if converted is None or own not in wanted else list(wanted[own].shape)
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    check_names(set(wanted) - set(there) - tied, set(there) - set(wanted), str(folder))
    other = [name for name, shape in there.items() if name in wanted and list(wanted[name].shape) != list(shape)]
    if other:
        raise InputError(
            f"policy {folder} cannot be used: {len(other)} weights have another shape than its config.json says (such "
            f"as {other[0]}, {there[other[0]]} instead of {list(wanted[other[0]].shape)}); take both of one model"
        )


def check_weights_apart(folder: Path) -> None:
    """:func:`check_weights` in a process of its own."""
    command = [sys.executable, "-m", __name__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == BAD_INPUT:
        raise InputError(done.stdout.strip())
    if done.returncode:
        said = done.stderr.splitlines()[-1:] or ["it ended without a word"]
        raise RuntimeError(f"the weights in {folder} could not be compared with its config.json: {said[0]}")


if __name__ == "__main__":
    try:
        check_weights(Path(sys.argv[1]))
    except InputError as fault:
        print(fault)
        sys.exit(BAD_INPUT)
