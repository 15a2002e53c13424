"""What all Hydra configurations share: where they lie, whether an override can be read, the nearest existing key."""

from __future__ import annotations

import difflib
import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig

from seg_zero.command_line import quoted
from seg_zero.errors import InputError

OVERRIDE = re.compile(r"(?P<add>\+{0,2})(?P<key>[^=+~]+)=(?P<value>.*)", re.DOTALL)


def package_folder(name: str) -> Path:
    """Folder of an installed top-level package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"package {name} is not installed; install the project with its requirements")
    return Path(next(iter(spec.submodule_search_locations)))


def key_nodes(config: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key of a configuration, inner nodes included, and its node."""
    for key in map(str, config):
        name, child = f"{prefix}{key}", config._get_node(key)
        yield name, child
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from key_nodes(child, f"{name}.")


def key_names(config: DictConfig) -> Iterator[str]:
    """Every dotted key of a configuration, inner nodes included."""
    return (name for name, _ in key_nodes(config))


def missing_keys(config: DictConfig | ListConfig) -> list[str]:
    """Every dotted key whose value is still the mandatory ``???``.

    ``OmegaConf.missing_keys`` gives the same, but evaluates all interpolations on its way.
    """
    found: list[str] = []
    for key in range(len(config)) if isinstance(config, ListConfig) else config:
        child: Any = config._get_node(key)  # type: ignore[arg-type]
        if child._is_missing():
            found.append(config._get_full_key(key))
        elif isinstance(child, DictConfig | ListConfig) and not (child._is_none() or child._is_interpolation()):
            found += missing_keys(child)
    return found


def nearest_keys(wrong: str, names: Sequence[str]) -> str:
    """Existing keys to offer for a wrong one: siblings first, then keys whose last part is alike."""
    parent, _, tail = wrong.rpartition(".")
    last_part = {name: name.rpartition(".")[2] for name in names}
    siblings = {last_part[name]: name for name in names if name.rpartition(".")[0] == parent}
    found = [siblings[part] for part in difflib.get_close_matches(tail, siblings, n=3, cutoff=0.6)]
    found += difflib.get_close_matches(wrong, names, n=3, cutoff=0.8)
    close = set(difflib.get_close_matches(tail, sorted(set(last_part.values())), n=2, cutoff=0.75))
    found += sorted((name for name in names if last_part[name] in close), key=len)
    return ", ".join(dict.fromkeys(found[:6])) or "none is similar; --dry-run prints them all"


def check_written(overrides: Sequence[str]) -> None:
    """Every override can be read by Hydra, and as one value."""
    parser = OverridesParser.create()
    for override in overrides:
        try:
            parsed = parser.parse_override(override)
        except HydraException as error:
            found = OVERRIDE.fullmatch(override)
            if found is None:
                raise InputError(f"configuration: {override!r} is not KEY=VALUE; write it so") from error
            raise _unquoted(found) from error
        if parsed.is_sweep_override() and (found := OVERRIDE.fullmatch(override)) is not None:
            raise _unquoted(found)


def _unquoted(found: re.Match[str]) -> InputError:
    """The error for a value that Hydra reads as something else than a text."""
    key, value = found["add"] + found["key"], found["value"]
    text = f"{key}={quoted(value)}" if re.search(r"[\"'\\]", value) else f'{key}="{value}"'
    return InputError(
        f"configuration: Hydra cannot read {key}={value} as one value; if it is a text, quote it for Hydra and for the "
        f"shell: {shlex.quote(text)}"
    )
