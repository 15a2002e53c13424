"""Missing optional packages: what is said, and that the names agree with what setup.py declares."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

from seg_zero import extras
from seg_zero.errors import InputError
from seg_zero.extras import BASE, EXTRAS, TRAINING, VLLM, require

SETUP = Path(__file__).resolve().parents[1] / "setup.py"


def test_the_plain_package_brings_what_every_command_is_checked_for() -> None:
    known = packages_distributions()
    named = set().union(*(known[package] for package in BASE))
    listed = {
        re.split(r"[\[<>=]", ast.literal_eval(entry))[0]
        for node in ast.parse(SETUP.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("CORE", "MODELS")
        for entry in map(ast.unparse, node.value.elts)  # type: ignore[attr-defined]
    }
    assert {name.lower().replace("_", "-") for name in named} >= listed - {"sam2"} and "sam2" in BASE
    assert len(BASE) == len(listed)


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


_MISSING = """
import sys
from seg_zero import extras
from seg_zero.cli.main import main
found = extras.find_spec
extras.find_spec = lambda name: None if name == sys.argv[1] else found(name)
code = main(sys.argv[2:])
print(code, sorted({"torch", "hydra", "pyarrow", "gradio", "fastapi", "transformers"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("verl", ["train"], "seg-zero[train]"),
        ("verl", ["train", "--dry-run", "policy=tiny"], "seg-zero[train]"),
        ("ray", ["demo"], "seg-zero[train]"),
        ("gradio", ["web"], "seg-zero[web]"),
        ("fastapi", ["serve"], "seg-zero[serve]"),
        ("rerun", ["scan", "show", "x", "--rerun"], "seg-zero[rerun]"),
        ("vllm", ["serve", "--engine", "vllm"], "seg-zero[gpu]"),
        ("vllm", ["evaluate", "--data", "synthetic", "--out", "x", "--engine", "vllm"], "seg-zero[gpu]"),
        ("ray", ["evaluate", "--data", "synthetic", "--out", "x", "--workers", "2"], "seg-zero[train]"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_command_names_its_missing_extra_before_it_imports_anything_slow(
    package: str, arguments: list[str], extra: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SETUP.parent)}
    command = [sys.executable, "-c", _MISSING, package, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60)
    assert (done.stdout, done.stderr.count("\n")) == ("2 []\n", 1), done.stderr
    assert f"needs {package}, which is not installed; pip install '{extra}'" in done.stderr
    assert list(tmp_path.iterdir()) == []
