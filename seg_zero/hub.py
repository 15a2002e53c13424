"""Models of the hub: whether it answers, known in seconds where its client retries for minutes, and whether what
transformers loads is whole.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import getproxies

from seg_zero.errors import InputError, counted, one_line, print_warning

SECONDS = 4.0  # for an answer of the hub
_silent: set[str] = set()  # addresses that did not answer this process


def unreachable() -> str | None:
    """Why nothing can be fetched from the hub (from ``HF_ENDPOINT`` if that is set), None if it answers.

    A hub that does not answer within ``SECONDS`` is left alone from then on, as with ``HF_HUB_OFFLINE=1``: what was
    downloaded before is used, and everything else fails at once.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE and constants.ENDPOINT not in _silent:
        return "HF_HUB_OFFLINE is set"
    reason = _problem(constants.ENDPOINT)
    if reason is None:
        return None
    _silent.add(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = True
    os.environ["HF_HUB_OFFLINE"] = "1"  # for the processes of vLLM and Ray
    return f"the hub {constants.ENDPOINT} cannot be reached ({reason})"


@cache
def _problem(endpoint: str) -> str | None:
    """Why an address gives no HTTP response; asked once, in a thread, since looking up a name knows no time limit."""
    found = [f"no answer in {SECONDS:.0f} s"]

    def ask() -> None:
        import httpx

        try:
            httpx.head(endpoint, timeout=SECONDS)
            found.clear()
        except Exception as error:  # proxies that cannot be used raise ImportError and ValueError
            found[0] = one_line(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(SECONDS + 0.5)
    return found[0] if found else None


def check_proxies(what: str) -> None:
    """Raises InputError, beginning with ``what``, for a SOCKS proxy in the environment without the package for it."""
    if importlib.util.find_spec("socksio") is not None:
        return
    for scheme, address in getproxies().items():
        if scheme != "no" and address.lower().startswith("socks"):
            raise InputError(
                f"{what} cannot use the proxy {address} ({scheme}_proxy) without the package socksio; run "
                "`pip install socksio`, or unset the variable"
            )


def exempt_own_addresses(*hosts: str) -> None:
    """Let this process reach its own machine, and ``hosts``, without the proxies of the environment."""
    for name in ("no_proxy", "NO_PROXY"):
        named = [part for part in os.environ.get(name, "").split(",") if part.strip()]
        os.environ[name] = ",".join(dict.fromkeys([*named, "localhost", "127.0.0.1", "::1", *hosts]))


def check_here(what: str, name: str, file: str = "config.json") -> None:
    """Check that a folder or hub id can be had. ``what``: e.g. "policy"; ``file``: one of its files.

    Raises InputError with the remedies if the hub cannot be asked and ``file`` was not downloaded before.
    """
    if Path(name).is_dir():
        return
    reason = unreachable()
    if reason is None:
        return
    from huggingface_hub import try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(name, file), str):
        raise InputError(f"{what} {name} is not on this machine, and {reason}; {remedy(name)}")
    if _silent:
        _warn(f"{reason}; what was downloaded before is used")


def download(what: str, name: str, file: str) -> Path:
    """A file of a hub id, from the cache or the hub. Raises InputError with the remedies if it cannot be had."""
    check_here(what, name, file)
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo_id=name, filename=file))
    except (OSError, ValueError) as error:  # network and hub errors derive from OSError
        raise InputError(
            f"cannot get {file} of {name} ({one_line(error)}); "
            "check the network, or download the file and give its path"
        ) from error


def remedy(name: str) -> str:
    """What to do for a hub id that is not on this machine."""
    return (
        f"give a folder, name a mirror with HF_ENDPOINT, or run `hf download {name}` where there is a network, copy "
        "the cache (HF_HOME) and set HF_HUB_OFFLINE=1"
    )


@cache
def _warn(line: str) -> None:
    print_warning(line)


def load_model(model_class: Any, source: str, **options: Any) -> tuple[Any, dict[str, Any]]:
    """A model of transformers, and what it says about the weights; without the table that it prints of them.

    Weights that are missing or of another shape are random: see ``missing_keys`` and :func:`check_shapes`.
    """
    table = logging.getLogger("transformers.modeling_utils")
    before, table.disabled = table.disabled, True
    try:
        model, loaded = model_class.from_pretrained(
            source, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    finally:
        table.disabled = before
    return model, loaded


def check_shapes(loaded: Mapping[str, Any], model: str) -> None:
    """Raises InputError if weights have another shape than the configuration says; ``model``: "policy PATH"."""
    others = sorted(loaded["mismatched_keys"])
    if others:
        name, shape, wanted = others[0]
        raise InputError(
            f"{model} cannot be used: {counted(len(others), 'weight')} {'has' if len(others) == 1 else 'have'} another "
            f"shape than its config.json says (such as {name}, {list(shape)} instead of {list(wanted)}); take both of "
            "one model"
        )
