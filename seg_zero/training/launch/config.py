"""Composes the training configuration from ``configs/grpo.yaml`` and command-line overrides."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seg_zero.command_line import quoted
from seg_zero.errors import InputError
from seg_zero.hydra_config import (
    OVERRIDE,
    check_written,
    key_names,
    key_nodes,
    missing_keys,
    nearest_keys,
    package_folder,
)
from seg_zero.policy.families import family_named
from seg_zero.prompting import PromptSpec, PromptTemplate
from seg_zero.training import settings
from seg_zero.training.launch.renamed_keys import MOVED_MODULES, RENAMED, REPLACED
from seg_zero.training.launch.values import check_values

CONFIG_NAME = "grpo"
GROUPS = ("policy", "data", "reward", "hardware", "schedule", "algorithm", "dialogue")
# Sections that are read by this project alone: a key added to them with + would be read by nobody.
_CLOSED = ("worker", *(section.SECTION for section in settings.SECTIONS if section.SECTION))
_NOT_A_KEY = re.compile(r"Could not override '([^']+)'")
_NOT_AN_OPTION = re.compile(r"Could not find '([^']+)/([^'/]+)'")
_ALIAS = re.compile(r"\$\{((?:worker|policy|engine)\.[\w.]+)\}")

# Arithmetic for values that follow from others; resolved here, so that no other process needs it.
OmegaConf.register_new_resolver("add", lambda a, b: a + b, replace=True)
OmegaConf.register_new_resolver("fraction", lambda part, whole: max(1, round(part * whole)), replace=True)
OmegaConf.register_new_resolver("lora_exclude", lambda family: family_named(family).lora_exclude, replace=True)


@cache
def short_names() -> dict[str, list[str]]:
    """Short keys (the published ones, and those of our sections), each with verl's keys that take their value from it.

    ``grpo.yaml`` says which.
    """
    written = OmegaConf.load(package_folder("seg_zero.configs") / f"{CONFIG_NAME}.yaml")
    assert isinstance(written, DictConfig)
    found: dict[str, list[str]] = {}

    def collect(node: Mapping[str, Any], prefix: str) -> None:
        for key, value in node.items():
            if isinstance(value, dict):
                collect(value, f"{prefix}{key}.")
            elif isinstance(value, str) and (alias := _ALIAS.fullmatch(value)):
                found.setdefault(alias[1], []).append(f"{prefix}{key}")

    collect(OmegaConf.to_container(written, resolve=False), "")  # type: ignore[arg-type]
    return found


def _folders() -> list[Path]:
    """Where Hydra finds options of groups: ours, and verl's."""
    # Given by its path, because resolving pkg://verl would import verl, which takes seconds.
    return [package_folder("seg_zero.configs"), package_folder("verl") / "trainer" / "config"]


@lru_cache(maxsize=16)
def _compose(choices: tuple[str, ...]) -> DictConfig:
    """The configuration with these choices of options; not to be changed."""
    ours, upstream = _folders()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ours), version_base=None):
        return compose(CONFIG_NAME, overrides=[f"hydra.searchpath=[{quoted(f'file://{upstream}')}]", *choices])


def _split(overrides: Sequence[str]) -> tuple[tuple[str, ...], list[Override]]:
    """The overrides that choose an option of a group or are about Hydra itself, and those that set a key."""
    choices, keys = [], []
    for text, parsed in zip(overrides, OverridesParser.create().parse_overrides(list(overrides)), strict=True):
        name = parsed.key_or_group
        group = parsed.package is not None or any((folder / name).is_dir() for folder in _folders())
        if group or parsed.is_hydra_override():
            choices.append(text)
        else:
            keys.append(parsed)
    return tuple(choices), keys


def _base(overrides: Sequence[str]) -> DictConfig:
    """The configuration with the overrides of groups alone; not to be changed."""
    return _compose(_split(overrides)[0])


def _with_keys(overrides: Sequence[str]) -> DictConfig:
    """The configuration with all overrides, as Hydra composes it.

    Hydra too sets the keys last, by this function; reading all files a second time would double the time.
    """
    choices, keys = _split(overrides)
    config = copy.deepcopy(_compose(choices))
    ConfigLoaderImpl._apply_overrides_to_config(keys, config)
    return config


def _unknown_key(key: str, overrides: Sequence[str]) -> InputError:
    if key in RENAMED:
        return InputError(f"configuration key {key!r} is named {RENAMED[key]} here; use that")
    if key in REPLACED:
        return InputError(f"configuration key {key!r} does not exist here; {REPLACED[key]}")
    names = list(key_names(_base(overrides)))
    return InputError(f"unknown configuration key {key!r}; nearest existing: {nearest_keys(key, names)}")


def _explain(error: Exception, overrides: Sequence[str]) -> InputError:
    text = str(error)
    key = _NOT_A_KEY.search(text)
    if key is not None:
        return _unknown_key(key[1], overrides)
    option = _NOT_AN_OPTION.search(text)
    if option is not None:
        choices = sorted({path.stem for folder in _folders() for path in (folder / option[1]).glob("*.yaml")})
        return InputError(f"unknown option {option[1]}={option[2]}; choose one of {', '.join(choices)}")
    return InputError(f"configuration: {' '.join(text.split())}")


def _given(overrides: Sequence[str]) -> dict[str, str]:
    """The keys that the overrides set, each with its plus signs."""
    return {found["key"].strip(): found["add"] for o in overrides if (found := OVERRIDE.fullmatch(o))}


def _check_added(overrides: Sequence[str]) -> None:
    """A key added with + must be in a section that somebody reads; most others are typing errors."""
    given = _given(overrides)
    added = [key for key, plus in given.items() if plus]
    if not added:
        return
    base = _base(overrides)
    names = set(key_names(base))
    for key in added:
        top = key.partition(".")[0]
        closed = any(key.startswith(f"{section}.") for section in _CLOSED)
        unread = closed or (top not in base and top not in GROUPS)
        if key not in names and (key in RENAMED or key in REPLACED or unread):
            raise _unknown_key(key, overrides)


def _check_twice(config: DictConfig, overrides: Sequence[str]) -> None:
    """A setting given under its short and under verl's name has one value; the short names show what runs."""
    given = _given(overrides)
    for short, long_names in short_names().items():
        values = {name: OmegaConf.select(config, name) for name in long_names}
        for name, value in values.items():
            mine = OmegaConf.select(config, short)
            if short in given and name in given and mine != value:
                raise InputError(f"{short}={mine} and {name}={value} are the same setting; give only one of them")
        if len({str(value) for value in values.values()}) == 1:
            OmegaConf.update(config, short, values[long_names[0]])


def _check_modules(config: DictConfig) -> None:
    """A value that names a module by its former place is refused: verl would fail on it late, in a worker."""
    for key, node in key_nodes(config):
        value = node._value()
        if not isinstance(value, str):
            continue
        name = value.removeprefix("pkg://")
        for old, new in MOVED_MODULES.items():
            if name == old or name.startswith(f"{old}."):
                raise InputError(f"{key}={value} names a module that has moved; give {value.replace(old, new)}")


def _put_wording(config: DictConfig, overrides: Sequence[str]) -> None:
    """Copy what ``policy.prompt_template`` holds into the configuration, so that the run needs the file no more.

    Without the file, the wording that the model's folder carries is used.
    """
    policy, prompt, given = config.policy, config.data.prompt, _given(overrides)
    if policy.prompt_template is not None:
        if "policy.template" in given:
            raise InputError(
                f"policy.template={policy.template} and policy.prompt_template={policy.prompt_template} "
                "both name a wording; give one of them"
            )
        wording = PromptTemplate.read(Path(policy.prompt_template).expanduser())
    else:
        folder = Path(config.actor_rollout_ref.model.path).expanduser()
        saved = PromptSpec.load(folder) if folder.is_dir() else None
        if saved is None or saved.text is None or prompt.text is not None or "policy.template" in given:
            return
        wording = PromptTemplate(saved.text, saved.template, saved.newline, saved.normalisation)
    prompt.update({"text": wording.text, "newline": wording.newline, "normalisation": wording.normalisation})
    for key, value in (
        ("template", wording.format),
        ("image_size", wording.image_size),
        ("coordinates", wording.coordinates),
    ):
        if value is not None and f"policy.{key}" not in given:
            policy[key] = prompt[key] = value


def load_config(overrides: Sequence[str]) -> DictConfig:
    """The full training configuration with all interpolations resolved.

    Raises InputError for an unknown key (naming the nearest ones, or what replaces it), an unknown group option or
    policy family, a malformed override, a mandatory value that is not set, a module that has moved, a value that
    :mod:`seg_zero.training.settings` refuses, or a short and a long name of one setting with two values.
    """
    check_written(overrides)
    try:
        _check_added(overrides)
        config = _with_keys(overrides)
        missing = sorted(name for name in missing_keys(config) if not name.startswith("reward.reward_model."))
        if missing:
            raise InputError(f"configuration: {', '.join(missing)} has no value; set it, e.g. {missing[0]}=VALUE")
        family_named(str(config.policy.family))  # a resolver asks it too, but its error would be hard to read
        OmegaConf.resolve(config)
    except (ConfigCompositionException, MissingConfigException, HydraException, OmegaConfBaseException) as error:
        raise _explain(error, overrides) from error
    _check_modules(config)
    _check_twice(config, overrides)
    settings.check(config)
    check_values(config, _base(overrides), _given(overrides))
    _put_wording(config, overrides)
    return config
