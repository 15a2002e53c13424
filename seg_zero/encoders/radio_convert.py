"""Published RADIO checkpoints (``.pth.tar``) to safetensors: backbone and adaptor heads.

    python -m seg_zero.encoders.radio_convert c-radio_v3-b_half.pth.tar --out outputs/radio_v3_b

The published safetensors omit the adaptor heads, so the pickled checkpoint is needed once. It is read with
``weights_only``; besides tensors only ``argparse.Namespace`` is admitted.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.models.naflexvit import checkpoint_filter_fn

from seg_zero.data.cache import cache_folder
from seg_zero.encoders.radio_model import empty_backbone
from seg_zero.encoders.radio_versions import (
    DESCRIPTION,
    SIGLIP_TOWERS,
    VERSIONS,
    WEIGHTS,
    AdaptorInfo,
    Architecture,
    Description,
    version_of,
)
from seg_zero.errors import InputError
from seg_zero.files import make_folder, write_json

State = dict[str, torch.Tensor]
_BACKBONE = "base_model."
_HEADS = {"summary": "_heads", "feature": "_feature_projections"}
_REPARAMETRISED = re.compile(r"(.*)\.parametrizations\.weight\.original")


def converted(checkpoint: Path) -> Path:
    """The folder of a checkpoint's conversion in the cache, which is made the first time."""
    stat = checkpoint.stat()
    key = hashlib.sha256(f"{checkpoint.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = cache_folder() / "radio" / f"{checkpoint.name.split('.')[0]}-{key}"
    if not (folder / WEIGHTS).is_file():
        make_folder(folder.parent)
        print(f"converting {checkpoint} to {folder}, once", flush=True)
        convert(checkpoint, folder)
    return folder


def convert(checkpoint: Path, out: Path, architecture: Architecture | None = None) -> Description:
    """Write ``radio.json`` and ``model.safetensors`` to the new folder ``out``; all or nothing.

    architecture: of a backbone that was not published; None: that of the published version with these weights.
    Raises InputError for a file that is no such checkpoint, and if ``out`` exists.
    """
    if out.exists():
        raise InputError(f"{out} exists; give a new folder")
    saved = read_checkpoint(checkpoint)
    state = fold_reparametrisation(state_of(saved, checkpoint))
    args = saved.get("args")
    if architecture is None:
        version = version_of(_measured(state))
        architecture = VERSIONS[version].architecture
    else:
        version = ""
    tensors = {f"backbone.{name}": value for name, value in _backbone(state, architecture).items()}
    adaptors = {}
    for index, teacher in enumerate(getattr(args, "teachers", None) or []):
        name = str(teacher["name"])
        heads = _heads(state, index, name)
        if any(key.startswith("summary.") for key in heads):
            tensors |= {f"adaptors.{name}.{key}": value for key, value in heads.items()}
            adaptors[name] = _teacher(teacher)
    description = Description(version, architecture, adaptors)
    make_folder(out.parent)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        work = Path(temporary) / "radio"
        work.mkdir()
        save_file({name: value.contiguous().clone() for name, value in tensors.items()}, work / WEIGHTS)
        write_json(work / DESCRIPTION, description.to_json())
        shutil.move(work, out)
    return description


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """The dictionary of a checkpoint. Raises InputError if it holds code, or is no dictionary of torch."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            saved = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch's reader raises anything for damaged files, KeyError included
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise InputError(
                f"backbone {path} holds {named[1]} besides weights, which could run code; download the published file"
            ) from error
        raise InputError(f"backbone {path} is no readable checkpoint; download it again") from error
    if not isinstance(saved, Mapping):
        raise InputError(f"backbone {path} holds {type(saved).__name__} and no checkpoint; give RADIO's .pth.tar")
    return saved


def state_of(saved: Mapping[str, Any], path: Path) -> State:
    """The weights, of the moving average where there is one, without wrappers' prefixes."""
    state = saved.get("state_dict_ema") or saved.get("state_dict")
    if not isinstance(state, Mapping) or not any(key.removeprefix("module.").startswith(_BACKBONE) for key in state):
        raise InputError(
            f"backbone {path} has no weights under {_BACKBONE[:-1]}; give a checkpoint of RADIO (.pth.tar)"
        )
    return {key.removeprefix("module."): value for key, value in state.items()}


def fold_reparametrisation(state: State) -> State:
    """Weights trained with a scaled spectral norm as plain weights: W * scale / sigma, sigma = u' W v + eps.

    scale is stored as it is (first form) or as softplus(scale) + 0.05 (second form). A joint qkv weight has three
    parts, of which the values' may be plain.
    """
    folded = {key: value for key, value in state.items() if ".parametrizations." not in key}
    for key, weight in state.items():
        if not (match := _REPARAMETRISED.fullmatch(key)):
            continue
        prefix = key.removesuffix("original") + "0."
        parts = {
            name.removeprefix(f"{prefix}parts.").split(".")[0] for name in state if name.startswith(f"{prefix}parts.")
        }
        if not parts:
            folded[f"{match[1]}.weight"] = _folded(weight, state, prefix)
            continue
        count = 3 if match[1].endswith("qkv") else 2
        chunks = weight.chunk(count)
        folded[f"{match[1]}.weight"] = torch.cat(
            [
                _folded(chunk, state, f"{prefix}parts.{number}.") if str(number) in parts else chunk
                for number, chunk in enumerate(chunks)
            ]
        )
    return folded


def _folded(weight: torch.Tensor, state: State, prefix: str) -> torch.Tensor:
    u, v, scale = (state[prefix + name].float() for name in ("_u", "_v", "scale"))
    sigma = torch.dot(u, weight.float().flatten(1) @ v) + 1e-6
    second_form = int(state.get(f"{prefix}_sn_version", torch.tensor(1))) == 2
    scale = scale.flatten()[0]
    return (weight.float() * ((F.softplus(scale) + 0.05 if second_form else scale) / sigma)).to(weight.dtype)


def _measured(state: State) -> Architecture:
    """Width, depth and tokens of a backbone; heads cannot be seen in weights and are left at 1."""
    try:
        tokens, width = state[f"{_BACKBONE}patch_generator.cls_token.token"].shape
    except KeyError as error:
        raise InputError(
            "the checkpoint's backbone is no ViT of RADIO (no patch_generator.cls_token); give v3 or v4"
        ) from error
    blocks = {key.split(".")[2] for key in state if key.startswith(f"{_BACKBONE}blocks.")}
    return Architecture(width, len(blocks), 1, reg_tokens=tokens - 1)


def _backbone(state: State, architecture: Architecture) -> State:
    """The backbone's weights under timm's names. Raises InputError if they do not fit the architecture."""
    model = empty_backbone(architecture, align_corners=False)
    named = {
        key.replace(_BACKBONE, "radio_model.model.", 1): value
        for key, value in state.items()
        if key.startswith(_BACKBONE)
    }
    weights: State = checkpoint_filter_fn(named, model)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    if wanted != found:
        wrong = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        raise InputError(
            f"the checkpoint's backbone differs from its architecture in {wrong[0]} ({len(wrong)} weights)"
        )
    return weights


def _heads(state: State, index: int, name: str) -> State:
    """Weights of a teacher's heads as ``summary.*`` and ``feature.*``; checkpoints number or name them."""
    found: State = {}
    for kind, group in _HEADS.items():
        for prefix in (f"{group}.{index}.", f"{group}.{name}."):
            found |= {f"{kind}.{key.removeprefix(prefix)}": v for key, v in state.items() if key.startswith(prefix)}
    return found


def _teacher(teacher: Mapping[str, Any]) -> AdaptorInfo:
    model = str(teacher.get("model", ""))
    return AdaptorInfo(
        str(teacher.get("type", "")), SIGLIP_TOWERS.get(model, model), str(teacher.get("pretrained", ""))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Convert a published RADIO checkpoint to safetensors.")
    parser.add_argument("checkpoint", type=Path, help="the .pth.tar file")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    arguments = parser.parse_args()
    description = convert(arguments.checkpoint, arguments.out)
    print(f"{description.version}: adaptors {', '.join(description.adaptors) or 'none'}; wrote {arguments.out}")


if __name__ == "__main__":
    main()
