"""Missing optional packages: what is said, and that the names agree with what setup.py declares."""

from __future__ import annotations

import ast
import re
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

from seg_zero import extras
from seg_zero.errors import InputError
from seg_zero.extras import EXTRAS, TRAINING, VLLM, require

SETUP = Path(__file__).resolve().parents[1] / "setup.py"


def distributions_of(extra: str) -> set[str]:
    """The distributions that setup.py lists for an extra, without versions and their own extras."""
    call = next(
        n for n in ast.walk(ast.parse(SETUP.read_text())) if getattr(getattr(n, "func", 0), "id", "") == "setup"
    )
    assert isinstance(call, ast.Call)
    listed = next(ast.literal_eval(k.value) for k in call.keywords if k.arg == "extras_require")
    return {re.split(r"[\[<>=]", entry)[0].lower() for entry in listed[extra]}


@pytest.mark.parametrize("extra", ["train", "serve", "web", "supervision"])
def test_extras_name_the_packages_that_setup_declares(extra: str) -> None:
    known = packages_distributions()
    named = {known[package][0].lower().replace("_", "-") for package in EXTRAS[extra]}
    assert named == distributions_of(extra)


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ({"verl"}, "training needs verl, which is not installed; pip install 'seg-zero[train]'"),
        ({"verl", "ray"}, "training needs verl and ray, which are not installed; pip install 'seg-zero[train]'"),
        (
            {"verl", "ray", "vllm"},
            "training needs verl, ray and vllm, which are not installed; pip install 'seg-zero[train,gpu]' "
            "(without a GPU: cpu in place of gpu, docs/install.md)",
        ),
    ],
)
def test_what_is_missing_is_named_with_the_extra_that_brings_it(
    missing: set[str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name in missing else find_spec("json"))
    with pytest.raises(InputError) as raised:
        require("training", (*TRAINING, *VLLM))
    assert str(raised.value) == line


def test_nothing_is_said_when_all_is_there() -> None:
    require("reading", ("json", "csv"))
