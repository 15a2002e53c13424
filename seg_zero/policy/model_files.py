"""Which policy a name means, and the prompt settings that belong to it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from seg_zero.errors import InputError
from seg_zero.files import read_json
from seg_zero.hub import unreachable
from seg_zero.policy.families import (
    DEFAULT_FAMILY,
    FAMILIES,
    family_by_hub_name,
    family_named,
    format_by_name,
    is_published,
    spec_of_family,
)
from seg_zero.prompting import SPEC_FILE, PromptSpec, PromptTemplate
from seg_zero.segmenter import files as segmenter_files

# Words of the embedded policy, and of what is trained from it; that of a model for photos is 150,000.
EMBEDDED_VOCABULARIES = (576, 512)  # the second of one that was not taught dialogues (seg_zero.models.train_rounds)
TINY_POLICY = Path(__file__).parents[1] / "models" / "tiny_policy"
HOP_START = Path(__file__).parents[1] / "models" / "hop_start" / "policy"  # the start for questions of several hops
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_HUB_ID = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")


def missing_parts(folder: Path) -> list[str]:
    """What a policy's folder lacks beside weights, an image processor or a tokenizer, with the names of its files."""
    wanted = {
        "image processor": ("preprocessor_config.json", "processor_config.json"),
        "tokenizer": ("tokenizer.json", "vocab.json"),
    }
    return [
        f"{what} ({' or '.join(names)})"
        for what, names in wanted.items()
        if not any((folder / name).is_file() for name in names)
    ]


def resolve_model(path_or_id: str | Path | None) -> str:
    """A folder or hub id to load from; None and "tiny" mean the embedded policy.

    Raises InputError for a folder without configuration, weights, tokenizer or image processor, and for
    a model family that :data:`seg_zero.policy.families.FAMILIES` does not name.
    """
    if path_or_id is None or str(path_or_id) == "tiny":
        path_or_id = TINY_POLICY
    path = Path(path_or_id)
    if not path.exists():
        if _HUB_ID.fullmatch(str(path_or_id)):
            return str(path_or_id)
        raise InputError(f"policy {path_or_id} is neither a folder nor a hub id such as Ricky06662/VisionReasoner-7B")
    if not (path / "config.json").is_file():
        raise InputError(
            f"policy folder {path} has no config.json; merge a training checkpoint first with "
            "seg-zero merge --local_dir"
        )
    lacking = missing_parts(path)
    if not any((path / name).is_file() for name in WEIGHTS):
        lacking.append(f"weights ({' or '.join(WEIGHTS)})")
    if lacking:
        raise InputError(f"policy folder {path} has no {lacking[0]}; copy it from the base model")
    family = model_type_of(str(path))
    if family not in FAMILIES:
        raise InputError(f"policy folder {path} has model_type {family!r}; supported are {', '.join(FAMILIES)}")
    return str(path)


def folder_of(model: str) -> Path | None:
    """The local folder of a model other than the embedded one; None for that and for a hub id."""
    path = Path(model)
    return path if path.is_dir() and path.resolve() != TINY_POLICY.resolve() else None


def hub_file(repository: str, name: str) -> Path | None:
    """A file of a hub repository, from the cache or the hub; None if it has no such file or cannot be reached."""
    from huggingface_hub import hf_hub_download

    unreachable()  # then the call below fails at once
    try:
        return Path(hf_hub_download(repository, name))
    except (OSError, ValueError):  # what the model's own loading will say in full
        return None


def model_type_of(model: str) -> str | None:
    """``model_type`` in the config.json of a folder or hub id; None if there is none to read."""
    path = Path(model, "config.json") if Path(model).is_dir() else hub_file(model, "config.json")
    if path is None or not path.is_file():
        return None
    try:
        return read_json(path).get("model_type")
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); copy it again from the model") from error


def saved_spec(model: str) -> PromptSpec | None:
    """The ``seg_zero.json`` of a folder or hub id; None if it has none."""
    saved = None if Path(model).is_dir() else hub_file(model, SPEC_FILE)
    return PromptSpec.load(Path(model) if saved is None else saved.parent)


def default_spec(
    model: str,
    template: str | None = None,
    image_size: int | None = None,
    prompt_template: PromptTemplate | None = None,
) -> PromptSpec:
    """The prompt settings of a model: its own ``seg_zero.json``, else the published ones of its family and name.

    The name is the last part of path or hub id. A hub id whose config.json cannot be read has the family that its
    name speaks of. ``prompt_template`` brings a wording and what belongs to it, ``template`` (a key of
    :data:`seg_zero.prompting.TEMPLATES`) one of ours, and ``image_size`` replaces that value alone.
    """
    if template is not None and prompt_template is not None:
        raise InputError(f"template {template!r} and a prompt template were given; give one of them")
    spec = saved_spec(model)
    if spec is None:
        family = model_type_of(model) or family_by_hub_name(model) or DEFAULT_FAMILY
        size = family_named(family).image_size
        spec = spec_of_family(format_by_name(model) or "multi", size, family)
    if template is not None:
        spec = spec.in_words_of(template)
    if prompt_template is not None:
        spec = prompt_template.applied_to(spec)
    return replace(spec, image_size=image_size or spec.image_size)


def wording_warning(
    model: str, spec: PromptSpec, option: str = "--prompt_template FILE", ask_hub: bool = True
) -> str | None:
    """One line if a published checkpoint is about to be asked in other words than it was trained with, else None.

    A model with a ``seg_zero.json`` is not taken for a published one; ``ask_hub``: also look for that file on the hub.
    ``option``: how a template is given.
    """
    if spec.text is not None or not is_published(model):
        return None
    if (ask_hub or Path(model).is_dir()) and saved_spec(model) is not None:
        return None
    return (
        f"{model} was trained with a prompt in other words than ours, so its answers will be worse than published; "
        f"import that prompt with `seg-zero prompt import CHECKOUT_OF_ITS_REPOSITORY` and give {option}"
    )


def embedded_warning(model: str) -> str | None:
    """One line if a model is the embedded policy, or was trained from it, else None."""
    config = Path(model, "config.json")
    if not config.is_file():
        return None
    settings = read_json(config)
    if settings.get("text_config", settings).get("vocab_size") not in EMBEDDED_VOCABULARIES:
        return None
    what = "the embedded policy" if Path(model) == TINY_POLICY else f"{model}, trained from the embedded policy,"
    return (
        f"{what} knows only synthetic shapes, and its answers about anything else mean nothing; for photos give a real "
        "model with --model (in Python: policy), such as Ricky06662/VisionReasoner-7B"
    )


def models_warning(model: str, spec: PromptSpec, segmenter: str | Path | None) -> str | None:
    """What is to be said before the first answer of a policy and a segmenter, in one line; None if nothing is.

    See :func:`wording_warning`, :func:`embedded_warning` and that of :mod:`seg_zero.segmenter.files`: for a policy
    that knows photos the embedded SAM2 is no default to keep.
    """
    if not is_published(model) and (embedded := embedded_warning(model)) is not None:
        return embedded
    wording = wording_warning(model, spec)
    said = [line for line in (wording, segmenter_files.embedded_warning(segmenter)) if line is not None]
    return "; also, ".join(said) or None
