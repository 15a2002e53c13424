"""The model card of a merged folder, from the configuration of the run that the checkpoint belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from seg_zero.errors import InputError, one_line
from seg_zero.files import read_text

CARD = "README.md"
_PACKAGES = ("verl", "torch", "transformers", "vllm", "peft")


def read_run(actor: Path) -> dict[str, Any]:
    """The run's ``config.yaml``, where training writes it (``RUN/checkpoints/global_step_N/actor``); {} without one."""
    import yaml

    path = actor.resolve().parents[2] / "config.yaml"
    if not path.is_file():
        return {}
    try:
        run = yaml.safe_load(read_text(path))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}); repair or move it") from error
    return run if isinstance(run, dict) else {}


def _get(run: Mapping[str, Any], key: str) -> Any:
    value: Any = run
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def base_model_of(run: Mapping[str, Any]) -> str | None:
    """Folder or hub id of the model that the run started from; None if the run is not known."""
    path = _get(run, "actor_rollout_ref.model.path")
    return None if path is None else str(path)


def _public(name: str) -> str:
    """Hub ids as they are; of a local path only the last part, as cards get published."""
    return name if is_hub_id(name) else Path(name).name


def is_hub_id(name: str) -> bool:
    """Whether ``name`` has the form of a hub id and is not a local folder."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not Path(name).exists()


def _training_rows(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    terms = _get(run, "reward.terms") or {}
    weights = {name: _get(term, "weight") for name, term in terms.items() if _get(term, "weight")}
    data = _get(run, "data.train_files") or []
    rank = _get(run, "policy.lora.rank")
    facts = {
        "algorithm": " / ".join(
            str(value)
            for value in (
                _get(run, "algorithm.adv_estimator"),
                _get(run, "actor_rollout_ref.actor.policy_loss.loss_mode"),
            )
            if value
        ),
        "questions per step, answers per question": " x ".join(
            str(value)
            for value in (_get(run, "data.train_batch_size"), _get(run, "actor_rollout_ref.rollout.n"))
            if value is not None
        ),
        "learning rate": _get(run, "actor_rollout_ref.actor.optim.lr"),
        "KL weight": _get(run, "actor_rollout_ref.actor.kl_loss_coef")
        if _get(run, "actor_rollout_ref.actor.use_kl_loss")
        else None,
        "LoRA rank": rank or None,
        "reward": ", ".join(f"{name} x {weight:g}" for name, weight in weights.items()),
        "data": ", ".join(_public(str(name)) for name in ([data] if isinstance(data, str) else data)),
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


_USE = """```bash
seg-zero infer --reasoning_model_path THIS_FOLDER --segmentation_model_path facebook/sam2-hiera-large \\
    --image_path photo.jpg --text "what can hold water"
vllm serve THIS_FOLDER
```

`seg_zero.json` holds the prompt and the image size it was trained with; other programs must use the same."""
_USE_ADAPTER = """Adapters for the base model, to be loaded onto it:

```python
from peft import PeftModel
from transformers import AutoModelForImageTextToText

base = AutoModelForImageTextToText.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "THIS_FOLDER").merge_and_unload()
```"""


def model_card(run: Mapping[str, Any], *, step: str, base_model: str | None, adapter: bool) -> str:
    """Text of README.md: YAML head for the hub, then what was trained, how to use it, and with which versions.

    run: of :func:`read_run`. step: name of the checkpoint's folder. adapter: the folder holds only adapters.
    """
    from huggingface_hub import ModelCardData

    base = None if base_model is None else _public(base_model)
    head = ModelCardData(
        library_name="peft" if adapter else "transformers",
        pipeline_tag="image-text-to-text",
        base_model=base if base is not None and is_hub_id(base) else None,
        tags=["reasoning-segmentation", "grpo", "seg-zero"],
    ).to_yaml()
    title = _get(run, "trainer.experiment_name") or "Reasoning segmentation policy"
    step_number = step.removeprefix("global_step_")
    rows = [("base model", base or "unknown"), ("training step", step_number), *_training_rows(run)]
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value.replace('|', ' ')} |" for name, value in rows)])
    versions = ", ".join(f"{name} {found}" for name in _PACKAGES if (found := _version(name)))
    return (
        f"---\n{head}\n---\n\n# {title}, step {step_number}\n\n"
        "A policy for reasoning segmentation, trained by reinforcement learning with Seg-Zero: it reads an image and\n"
        "a question, reasons in text, and writes boxes and points, which SAM2 turns into masks.\n\n"
        f"## Training\n\n{table}\n\n## Use\n\n"
        f"{_USE_ADAPTER.format(base=base or 'BASE_MODEL') if adapter else _USE}\n\n"
        f"## Versions\n\nInstalled where it was merged: {versions}.\n"
    )


def _version(name: str) -> str | None:
    for package in (name, f"{name}-cpu"):
        try:
            return version(package)
        except ImportError:  # PackageNotFoundError: not installed under this name
            continue
    return None
