"""The documentation names only links, files, modules, commands and options that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from seg_zero.cli.data import BUILDERS, TOOLS
from seg_zero.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
INDEX = ROOT / "docs" / "README.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("seg_zero/models/*/README.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FOLDERS = "seg_zero|rewards|configs|tests|benchmarks|docs|training_scripts|inference_scripts|requirements"
PATH = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w./*-]*")
MODULE = re.compile(r"(?<![\w./-])seg_zero(?:\.[A-Za-z_]\w*)+")
IMPORT = re.compile(r"^from (seg_zero[\w.]*) import (.+)$", flags=re.MULTILINE)
PLACEHOLDER = re.compile(r"[A-Z]{2,}")
FILES_OF_RUNS = {"seg_zero.json"}


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def test_index_links_every_page() -> None:
    linked = {(INDEX.parent / target.partition("#")[0]).resolve() for target in LINK.findall(INDEX.read_text())}
    assert sorted(page.name for page in set(INDEX.parent.glob("*.md")) - {INDEX} - linked) == []


def rooms_of(folder: Path) -> set[str]:
    names = {path.stem for path in folder.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize(
    ("package", "heading"), [("seg_zero", "## Rooms"), ("seg_zero/training", "Inside `seg_zero/training`")]
)
def test_architecture_lists_every_room_once(package: str, heading: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split(heading)[1].split("|---|---|\n")[1].split("\n\n")[0]
    listed = [name.rstrip("/") for line in table.splitlines() for name in re.findall(r"`([\w/]+)`", line.split("|")[1])]
    assert sorted(listed) == sorted(rooms_of(ROOT / package))


def path_exists(path: str) -> bool:
    """Whether a path (with wildcards, or up to its first placeholder such as NAME) is in the repository."""
    parts = Path(path.rstrip(".")).parts
    known = next((number for number, part in enumerate(parts) if PLACEHOLDER.search(Path(part).stem)), len(parts))
    if known < len(parts) and (ROOT / path).exists():
        known = len(parts)  # README.md and run_visionreasoner_7b_8x46G.sh are no placeholders
    return any(ROOT.glob("/".join(parts[:known])))


@each_page
def test_named_files_exist(page: Path) -> None:
    named = set(PATH.findall(page.read_text(encoding="utf-8")))
    assert sorted(path for path in named if not path_exists(path)) == []


@lru_cache
def defined(file: Path) -> frozenset[str]:
    """Names at the top level of a module, and those in its strings if it loads attributes lazily."""
    names: set[str] = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = list(tree.body)
    for node in nodes:
        if isinstance(node, ast.If):
            nodes += [*node.body, *node.orelse]
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(target.id for target in targets if isinstance(target, ast.Name))
    if "__getattr__" in names:
        names.update(n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return frozenset(names)


def name_exists(dotted: str) -> bool:
    """Whether a dotted name is a module of this repository, or an attribute of one."""
    place = ROOT
    for part in dotted.split("."):
        if (place / part).is_dir():
            place /= part
        elif (place / f"{part}.py").is_file():
            place = place / f"{part}.py"
        else:
            file = place if place.is_file() else place / "__init__.py"
            return part in defined(file)
    return True


@each_page
def test_named_modules_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(MODULE.findall(text)) - FILES_OF_RUNS
    named |= {f"{module}.{name.strip()}" for module, names in IMPORT.findall(text) for name in names.split(",")}
    assert sorted(name for name in named if not name_exists(name)) == []


def test_configurations_name_modules_that_exist() -> None:
    files = [*(ROOT / "configs").rglob("*.yaml"), *(ROOT / "training_scripts").glob("*.sh")]
    assert len(files) > 20
    named = {(file.name, name) for file in files for name in MODULE.findall(file.read_text().replace("pkg://", ""))}
    assert sorted(found for found in named if not name_exists(found[1])) == []


@each_page
def test_named_commands_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"(?<!_)seg-zero ([a-z]+(?:-[a-z]+)*)", text)) <= set(COMMANDS)
    assert set(re.findall(r"seg-zero data ([a-z_]+)", text)) <= {*BUILDERS, *TOOLS}


def options_in_code() -> set[str]:
    files = [*ROOT.glob("seg_zero/**/*.py"), *ROOT.glob("rewards/*.py")]
    found = {option for file in files for option in re.findall(r'"(--[\w-]+)"', file.read_text(encoding="utf-8"))}
    return found | {option.replace("--", "--no-", 1) for option in found} | {"--help"}


def shell_lines(text: str) -> Iterator[str]:
    """The commands of this package that a page shows, continued lines joined, without comments."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if re.match(r"\s*(seg-zero|python3? (inference|training)_scripts/|bash training_scripts/)", line):
            yield line.split(" #")[0]


def test_options_of_shown_commands_exist() -> None:
    shown = {
        (page.name, option)
        for page in PAGES
        for line in shell_lines(page.read_text(encoding="utf-8"))
        for option in re.findall(r"(?<= |\[)--[\w-]+", line)
    }
    assert len(shown) > 50
    known = options_in_code()
    assert sorted(found for found in shown if found[1] not in known) == []


@pytest.mark.parametrize(
    ("name", "exists"),
    [
        ("seg_zero.metrics", True),
        ("seg_zero.errors.InputError", True),
        ("seg_zero.ReasoningSegmenter", True),
        ("seg_zero.training.launch", True),
        ("seg_zero.errors.NoSuchError", False),
        ("seg_zero.training.plan", False),
    ],
)
def test_names_are_looked_up_in_the_code(name: str, exists: bool) -> None:
    assert name_exists(name) is exists


@pytest.mark.parametrize(
    ("path", "exists"),
    [
        ("configs/policy/NAME.yaml", True),
        ("training_scripts/run_visionreasoner_7b_*.sh", True),
        ("seg_zero/models/tiny_policy/README.md", True),
        ("seg_zero/training/plan.py", False),
        ("configs/polices/NAME.yaml", False),
    ],
)
def test_paths_are_looked_up_in_the_repository(path: str, exists: bool) -> None:
    assert path_exists(path) is exists
