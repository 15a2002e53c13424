"""The pinned files agree with setup.py, and light modules stay light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent


def declared() -> dict[str, list[str]]:
    """The requirement lists of setup.py by name: CORE, MODELS, and the extras."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    lists = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    call = next(n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "setup")
    extras = next(k.value for k in call.keywords if k.arg == "extras_require")
    return {**lists, **ast.literal_eval(extras)}


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_pinned_files_hold_what_setup_declares(variant: str) -> None:
    text = (ROOT / "requirements" / f"{variant}.txt").read_text()
    pinned = dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\n]+)", text, flags=re.MULTILINE))
    lists = declared()
    asked = [entry for name in ("CORE", "MODELS", "train", "dev", "serve", "web", variant) for entry in lists[name]]
    for requirement in asked:
        name, _, version = re.sub(r"\[.*?\]", "", requirement).partition("==")
        name = re.split(r"[<>=~]", name)[0]
        assert name in pinned, f"{name} is missing from requirements/{variant}.txt; run make lock"
        assert version in ("", pinned[name]), f"{name} is pinned at {pinned[name]}; run make lock"
    assert "://" not in text and "--index" not in text


LIGHT = [
    "rewards",
    "seg_zero.answer",
    "seg_zero.prompting",
    "seg_zero.metrics",
    "seg_zero.data.synthetic.rows",
]


def test_light_modules_import_no_torch() -> None:
    heavy = "{'torch', 'transformers', 'verl', 'vllm', 'ray'}"
    code = f"import sys, {', '.join(LIGHT)}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "name",
    [
        "CITATION.cff",
        ".pre-commit-config.yaml",
        ".github/workflows/ci.yml",
        ".github/ISSUE_TEMPLATE/bug_report.yml",
        ".github/ISSUE_TEMPLATE/feature_request.yml",
    ],
)
def test_yaml_files_of_the_repository_can_be_read(name: str) -> None:
    content = yaml.safe_load((ROOT / name).read_text())
    required = {
        "CITATION.cff": {"cff-version", "message", "title", "authors"},
        ".pre-commit-config.yaml": {"repos"},
        ".github/workflows/ci.yml": {"name", "jobs"},
    }
    assert required.get(name, {"name", "description", "body"}) <= set(content)


def test_rewards_is_one_package_under_both_names() -> None:
    code = "import rewards, rewards.boxes, seg_zero.rewards.boxes as b; print(rewards.boxes is b, rewards.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["True", "seg_zero.rewards"]


@pytest.mark.parametrize(("name", "variant"), [("Dockerfile.cpu", "cpu"), ("Dockerfile.cuda", "gpu")])
def test_docker_images_are_set_up_as_a_checkout_is(name: str, variant: str) -> None:
    """`make lint` runs hadolint on them."""
    text = (ROOT / name).read_text()
    assert f"VARIANT={variant} " in text and (ROOT / "requirements" / f"{variant}.txt").is_file()
    assert "RUN training_scripts/setup_env.sh" in text and 'ENTRYPOINT ["seg-zero"]' in text
    assert {".git", ".venv", "outputs"} <= set((ROOT / ".dockerignore").read_text().split())
    assert name in (ROOT / "Makefile").read_text()


def test_embedded_models_are_small() -> None:
    sizes = [p.stat().st_size for p in (ROOT / "seg_zero" / "models").rglob("*") if p.is_file() and p.suffix != ".pyc"]
    assert sum(sizes) < 25_000_000
