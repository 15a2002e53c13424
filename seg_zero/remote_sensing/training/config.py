"""The training configuration: Hydra composes ``configs/remote_sensing/``, and it becomes typed settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seg_zero.errors import InputError
from seg_zero.hydra_config import OVERRIDE, check_written, key_names, missing_keys, nearest_keys, package_folder
from seg_zero.remote_sensing import typed
from seg_zero.remote_sensing.training.settings import TrainSettings

ROOM, CONFIG_NAME = "remote_sensing", "train"
GROUPS = ("recipe", "size")
_NOT_A_KEY = re.compile(r"Could not override '([^']+)'")
_NOT_AN_OPTION = re.compile(r"Could not find '([^']+)/([^'/]+)'")


def _compose(overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    folder = package_folder("seg_zero.configs") / ROOM
    with initialize_config_dir(str(folder), version_base=None):
        return compose(CONFIG_NAME, overrides=list(overrides))


def _unknown(key: str, overrides: Sequence[str]) -> InputError:
    base = _compose([o for o in overrides if o.partition("=")[0] in GROUPS])
    return InputError(
        f"unknown configuration key {key!r}; nearest existing: {nearest_keys(key, list(key_names(base)))}"
    )


def compose_settings(overrides: Sequence[str]) -> tuple[TrainSettings, DictConfig]:
    """The settings, and the resolved configuration they come from.

    Raises InputError for an unknown key (naming the nearest), an unknown recipe or size, a value of another type or out
    of range, and a value that must be given and is not.
    """
    check_written(overrides)
    for override in overrides:
        found = OVERRIDE.fullmatch(override)
        if found is not None and found["add"]:
            raise InputError(f"{override!r} adds a key; all keys exist, so give it without +")
    try:
        config = _compose(overrides)
        missing = missing_keys(config)
        if missing:
            raise InputError(f"configuration: {', '.join(missing)} has no value; set it, e.g. {missing[0]}=VALUE")
        OmegaConf.resolve(config)
        values: Any = OmegaConf.to_container(config)
    except (ConfigCompositionException, MissingConfigException, HydraException, OmegaConfBaseException) as error:
        raise _explained(error, overrides) from error
    return typed.read(TrainSettings, values), config


def _explained(error: Exception, overrides: Sequence[str]) -> InputError:
    text = str(error)
    if (key := _NOT_A_KEY.search(text)) is not None:
        return _unknown(key[1], overrides)
    if (option := _NOT_AN_OPTION.search(text)) is not None:
        folder = package_folder("seg_zero.configs") / ROOM / option[1]
        choices = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        return InputError(f"unknown option {option[1]}={option[2]}; choose one of {choices}")
    return InputError(f"configuration: {' '.join(text.split())}")
