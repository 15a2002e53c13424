"""Which files a segmenter's name stands for. Imports no model; sam2's list of published names only if it is needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_zero.errors import InputError, one_line
from seg_zero.files import read_json
from seg_zero.hub import check_here, download

TINY = "tiny"
TINY_FOLDER = Path(__file__).parents[1] / "models" / "tiny_sam2"

FORCE_TRANSFORMERS = "transformers:"
# Model types whose weights hold a SAM decoder, by the class of transformers that reads them.
SAM2_TYPES = ("sam2", "sam2_video")
SAM3_TYPES = ("sam3_tracker", "sam3_tracker_video", "sam3_video")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Sam2Files:
    """A model of the sam2 package: its yaml and its checkpoint."""

    config: Path
    checkpoint: Path

    @property
    def all(self) -> list[Path]:
        return [self.config, self.checkpoint]


@dataclass(frozen=True)
class TransformersFiles:
    """A folder in the format of transformers, and the model_type of its config.json."""

    folder: Path
    model_type: str

    @property
    def all(self) -> list[Path]:
        """What can change the results: configurations and weights."""
        return sorted(path for path in self.folder.iterdir() if path.suffix in (".json", ".safetensors"))


def files_of(path_or_id: str | Path | None) -> list[Path]:
    """The files of a segmenter, for checks and fingerprints; fetches a hub id. Raises InputError as :func:`find`."""
    return find(path_or_id).all


def embedded_warning(path_or_id: str | Path | None) -> str | None:
    """One line if this segmenter is the embedded one and is asked about photos, else None."""
    if path_or_id is not None and str(path_or_id) != TINY and Path(path_or_id).expanduser().resolve() != TINY_FOLDER:
        return None
    return (
        "the embedded SAM2 knows only flat shapes, and finds next to nothing in photos of rooms and things; give "
        "--segmenter, such as facebook/sam2.1-hiera-large"
    )


def find(path_or_id: str | Path | None) -> Sam2Files | TransformersFiles:
    """The files of the model that the user named, and by that its format.

    path_or_id:
        None or "tiny": the embedded model.
        A folder with one ``*.yaml`` and one ``*.pt``, or a published file such as ``sam2.1_hiera_large.pt``: the
        sam2 package.
        A folder with config.json and safetensors: transformers.
        A Hugging Face id that sam2 knows, such as ``facebook/sam2.1-hiera-large``: the sam2 package; any other id,
        such as ``facebook/sam3``: transformers.
        With "transformers:" before a folder or id that holds both formats: transformers.

    Raises InputError if the files are missing or in neither format.
    """
    name = str(path_or_id) if path_or_id is not None else TINY
    if name == TINY:
        return _sam2_folder(TINY_FOLDER)
    forced = name.startswith(FORCE_TRANSFORMERS)
    name = name.removeprefix(FORCE_TRANSFORMERS)
    path = Path(name).expanduser()
    if path.is_dir():
        here = {entry.suffix for entry in path.iterdir()}
        if forced or ((path / "config.json").is_file() and not here & {".yaml", ".pt"}):
            return _transformers_folder(path)
        return _sam2_folder(path)
    if not forced and (known := _known_to_sam2(name, path)):
        return known
    if _HUB_ID.fullmatch(name) and path.suffix not in (".pt", ".yaml", ".safetensors") and not path.exists():
        return _transformers_folder(_download_folder(name))
    raise InputError(
        f"segmenter {name!r} is neither a file, a folder nor a hub id; "
        'give "tiny", an existing path, or an id such as facebook/sam2.1-hiera-large or facebook/sam3'
    )


def _known_to_sam2(name: str, path: Path) -> Sam2Files | None:
    """A published checkpoint file or id; None for what is neither a file nor published."""
    from seg_zero.segmenter.sam2_package import published_ids

    ids = published_ids()
    if path.is_file():
        configs = {file: config for config, file in ids.values()}
        if path.name not in configs:
            raise InputError(
                f"SAM2 checkpoint {path} has none of the published names {', '.join(sorted(configs))}; "
                "rename it, or give a folder with the checkpoint and its yaml"
            )
        return Sam2Files(configs[path.name], path)
    if name in ids:
        config, file = ids[name]
        return Sam2Files(config, download("segmenter", name, file))
    return None


def _sam2_folder(folder: Path) -> Sam2Files:
    found = []
    for pattern in ("*.yaml", "*.pt"):
        matches = sorted(folder.glob(pattern))
        if len(matches) != 1:
            raise InputError(
                f"segmenter folder {folder} holds {len(matches)} files {pattern}; the sam2 format needs exactly one "
                "yaml and one pt, that of transformers config.json and safetensors"
            )
        found.append(matches[0])
    return Sam2Files(*found)


def _transformers_folder(folder: Path) -> TransformersFiles:
    try:
        config: Any = read_json(folder / "config.json")
        model_type = config["model_type"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"segmenter folder {folder} has no config.json with a model_type ({one_line(error)}); "
            "give a folder that transformers wrote"
        ) from error
    if model_type not in (*SAM2_TYPES, *SAM3_TYPES):
        raise InputError(
            f"segmenter folder {folder} holds a model of type {model_type!r}, which takes no boxes and points here; "
            f"give one of {', '.join((*SAM2_TYPES, *SAM3_TYPES))}"
        )
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"segmenter folder {folder} holds no *.safetensors; download the weights again")
    return TransformersFiles(folder, model_type)


def _download_folder(repository: str) -> Path:
    check_here("segmenter", repository)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo_id=repository, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot get segmenter {repository} ({one_line(error)}); check the name and the network, run "
            "`hf auth login` if its licence has to be accepted, or download the folder and give its path"
        ) from error
