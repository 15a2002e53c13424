"""Composes the training configuration from ``configs/grpo.yaml`` and command-line overrides."""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seg_zero.errors import InputError

CONFIG_NAME = "grpo"
_NOT_A_KEY = re.compile(r"Could not override '([^']+)'")
_NOT_AN_OPTION = re.compile(r"Could not find '([^']+)/([^'/]+)'")


def package_folder(name: str) -> Path:
    """Folder of an installed top-level package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"package {name} is not installed; install the project with its requirements")
    return Path(next(iter(spec.submodule_search_locations)))


def key_names(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a configuration, inner nodes included."""
    for key in map(str, config):
        name = f"{prefix}{key}"
        yield name
        child = config._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from key_names(child, f"{name}.")


def _compose(overrides: Sequence[str]) -> DictConfig:
    # The path is given here because resolving pkg://verl would import verl, which takes seconds.
    search_path = f"hydra.searchpath=[file://{package_folder('verl') / 'trainer' / 'config'}]"
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(package_folder("configs")), version_base=None):
        return compose(CONFIG_NAME, overrides=[search_path, *overrides])


def _nearest(wrong: str, names: Sequence[str]) -> str:
    """Existing keys to offer for a wrong one: siblings first, then keys whose last part is alike."""
    parent, _, tail = wrong.rpartition(".")
    last_part = {name: name.rpartition(".")[2] for name in names}
    siblings = {last_part[name]: name for name in names if name.rpartition(".")[0] == parent}
    found = [siblings[part] for part in difflib.get_close_matches(tail, siblings, n=3, cutoff=0.6)]
    found += difflib.get_close_matches(wrong, names, n=3, cutoff=0.8)
    close = set(difflib.get_close_matches(tail, sorted(set(last_part.values())), n=2, cutoff=0.75))
    found += sorted((name for name in names if last_part[name] in close), key=len)
    return ", ".join(dict.fromkeys(found[:6])) or "none is similar; --dry-run prints them all"


def _explain(error: Exception, overrides: Sequence[str]) -> InputError:
    text = str(error)
    key = _NOT_A_KEY.search(text)
    if key is not None:
        names = list(key_names(_compose([o for o in overrides if re.match(r"(policy|data|hardware|reward)=", o)])))
        return InputError(f"unknown configuration key {key[1]!r}; nearest existing: {_nearest(key[1], names)}")
    option = _NOT_AN_OPTION.search(text)
    if option is not None:
        folder = package_folder("configs") / option[1]
        choices = sorted(path.stem for path in folder.glob("*.yaml"))
        return InputError(f"unknown option {option[1]}={option[2]}; choose one of {', '.join(choices)}")
    return InputError(f"configuration: {' '.join(text.split())}")


def load_config(overrides: Sequence[str]) -> DictConfig:
    """The full training configuration with all interpolations resolved.

    Raises InputError for an unknown key (naming the nearest ones), an unknown group option, a malformed
    override or a mandatory value that is not set.
    """
    try:
        config = _compose(overrides)
        missing = sorted(name for name in OmegaConf.missing_keys(config) if not name.startswith("reward.reward_model."))
        if missing:
            raise InputError(f"configuration: {', '.join(missing)} has no value; set it, e.g. {missing[0]}=VALUE")
        OmegaConf.resolve(config)
    except (ConfigCompositionException, MissingConfigException, HydraException, OmegaConfBaseException) as error:
        raise _explain(error, overrides) from error
    return config
