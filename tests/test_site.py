"""The documentation builds as a site without a warning, and works without network on a desk and on a phone."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.accessibility import findings
from helpers.scripts import load_script
from mkdocs.commands.build import build
from mkdocs.config import load_config
from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
hooks = load_script(DOCS / "site_hooks.py")
reference = load_script(DOCS / "reference.py")

FETCHED = re.compile(r"""<(?:script|img|iframe|link(?![^>]*rel="?canonical))[^>]*?(?:src|href)=["']?(?:https?:)?//""")
# Blocks of code and tables that one must scroll sideways.
CUT = """[...document.querySelectorAll("pre > code, .md-typeset__scrollwrap")]
    .filter(block => block.scrollWidth > block.clientWidth + 1).map(block => block.innerText.slice(0, 60))"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does: a broken link or anchor, or a page outside the index, is an error."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.delenv("REPOSITORY_URL", raising=False)
        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
    return folder


def test_every_page_is_built_with_a_description_of_its_own(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]
    found = [re.search(r'<meta name="?description"? content="([^"]+)"', page.read_text("utf-8")) for page in pages]
    described = [match[1] for match in found if match]
    listed = [entry for _, entries in hooks.sections() for entry in entries]
    assert len(pages) >= len(listed) + 1 > 30
    assert len(set(described)) > len(listed)


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert pages and [page.name for page in pages if FETCHED.search(page.read_text("utf-8"))] == []
    styles = [style for style in site.rglob("*.css") if re.search(r"url\([\"']?https?:", style.read_text("utf-8"))]
    assert styles == []


def test_the_notebook_page_shows_what_its_code_shows(site: Path) -> None:
    text = (site / "notebook.html").read_text(encoding="utf-8")
    assert "looks green" in text and "example_label_studio.xml" in text
    pictures = re.findall(r'<img[^>]* src="?(images/notebook_\d\.jpg)', text)
    assert len(pictures) == 2 and all((site / picture).read_bytes()[:2] == b"\xff\xd8" for picture in pictures)


def test_what_a_cell_prints_is_one_block(tmp_path: Path) -> None:
    printed = [{"output_type": "stream", "name": "stdout", "text": text} for text in (["a\n", "b\n"], ["c\n"])]
    shown = {"output_type": "execute_result", "data": {"text/plain": ["True"]}}
    cells = [
        {"cell_type": "markdown", "source": ["# Title"]},
        {"cell_type": "code", "source": ["run()"], "outputs": [*printed, shown]},
        {"cell_type": "code", "source": ["quiet()"], "outputs": []},
    ]
    (tmp_path / "some.ipynb").write_text(json.dumps({"cells": cells}))
    text, pictures = hooks.notebook_page(tmp_path / "some.ipynb")
    code = "```python\nrun()\n```\n\n```text\na\nb\nc\nTrue\n```\n\n```python\nquiet()\n```"
    assert text.startswith(f"# Title\n\n{code}\n\n<a href=") and pictures == {}


def test_the_home_page_says_first_what_it_is_about(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    assert 0 < text.index("answers a question about a picture with") < text.index('id="which-model-do-i-need"')


def test_search_knows_every_page(site: Path) -> None:
    text = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    places = {entry["location"].partition("#")[0] for entry in json.loads(text.removeprefix("var __index = "))["docs"]}
    assert {page.with_suffix(".html").name for page in DOCS.glob("*.md")} - places == {"README.html"}
    assert {"index.html", "notebook.html", "repository/CONTRIBUTING.html"} <= places


def test_pages_fit_their_window_and_open_from_disk(site: Path, browser: Browser) -> None:
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
    for file in sorted(site.rglob("*.html")):
        page.goto(file.as_uri())
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                complaints.append(f"{file.name} is wider than {width} pixels")
        cut = page.evaluate(CUT) if file.parent == site else []
        complaints += [f"{file.name} cuts {text}" for text in cut]
    assert complaints == []


def test_search_answers_in_a_page_opened_from_disk(site: Path, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((site / "index.html").as_uri())
    page.click("input[name=query]")
    page.keyboard.type("flash-attn", delay=20)
    page.wait_for_selector(".md-search-result__item a", timeout=30_000)
    assert "flash-attn" in page.inner_text(".md-search-result__list")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_have_no_serious_fault_of_accessibility(site: Path, browser: Browser, scheme: str) -> None:
    page = browser.new_context(color_scheme=scheme).new_page()
    for name in ("index", "quickstart", "commands"):
        page.goto((site / f"{name}.html").as_uri())
        assert [(name, line) for line in findings(page)] == []


@pytest.mark.parametrize("kind", ["anchors", "not_found", "absolute_links", "unrecognized_links"])
def test_links_of_every_kind_are_checked(kind: str) -> None:
    validation = load_config(str(ROOT / "mkdocs.yml")).validation
    assert validation.links[kind] == validation.nav["omitted_files"] == 30  # logging.WARNING, an error with --strict


@pytest.mark.parametrize(
    ("name", "page"), [("commands.md", "commands_page"), ("configuration.md", "configuration_page")]
)
def test_reference_pages_are_those_of_the_code(name: str, page: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == getattr(reference, page)(), "run `make reference`"


def test_configuration_keys_have_values_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "some.yaml"
    file.write_text(
        "# About.\na: 1  # one\nb:\n  # Of c, in\n  # two lines.\n  c: [1, 2]\n  d: {x: '#'}\n"
        "# A section.\ne:\n  f: null\n"
    )
    assert reference._rows(file) == [
        ("a", "`1`", "one"),
        ("b.c", "`[1, 2]`", "Of c, in two lines."),
        ("b.d", "`{x: '#'}`", ""),
        ("e", "", "A section."),
        ("e.f", "`null`", ""),
    ]


@pytest.mark.parametrize(
    ("text", "with_host", "without"),
    [
        ("[a](install.md#offline)", "[a](install.md#offline)", "[a](install.md#offline)"),
        ("[a](https://arxiv.org)", "[a](https://arxiv.org)", "[a](https://arxiv.org)"),
        ("[a](../setup.py)", "[a](https://host/o/n/blob/main/setup.py)", "a"),
        ("[`a`](../configs)", "[`a`](https://host/o/n/blob/main/configs)", "`a`"),
        (
            "[a](../CONTRIBUTING.md#layers)",
            "[a](repository/CONTRIBUTING.md#layers)",
            "[a](repository/CONTRIBUTING.md#layers)",
        ),
        ("[a](notebook.ipynb)", "[a](notebook.md)", "[a](notebook.md)"),
        ("![a](images/ask.jpg)", "![a](images/ask.jpg)", "![a](images/ask.jpg)"),
        ("`[a](../setup.py)`", "`[a](../setup.py)`", "`[a](../setup.py)`"),
        ("```\n[a](../setup.py)\n```", "```\n[a](../setup.py)\n```", "```\n[a](../setup.py)\n```"),
        ("[a](no_such_page.md)", "[a](no_such_page.md)", "[a](no_such_page.md)"),
    ],
)
def test_links_out_of_the_docs_lead_to_the_host_or_stay_text(text: str, with_host: str, without: str) -> None:
    assert hooks.relinked(text, DOCS / "data.md", "https://host/o/n/") == with_host
    assert hooks.relinked(text, DOCS / "data.md", None) == without


def test_pages_from_elsewhere_link_back_into_the_docs() -> None:
    text = "[a](docs/install.md) and [b](docs/images/ask.jpg) and [c](CHANGELOG.md)"
    found = hooks.relinked(text, ROOT / "CONTRIBUTING.md", None)
    assert found == "[a](../install.md) and [b](../images/ask.jpg) and [c](CHANGELOG.md)"


@pytest.mark.parametrize(
    ("html", "broken"),
    [
        ("<code>--max-open</code>", '<code><span class="whole">--max-open</span></code>'),
        ("<code>run --text x</code>", '<code>run <span class="whole">--text</span> x</code>'),
        ("<code>a.short.key</code>", "<code>a.short.key</code>"),
        (f"<code>long.{'x' * 30}_key</code>", f"<code>long.<wbr>{'x' * 30}_<wbr>key</code>"),
        ("<pre><code>--text</code></pre>", "<pre><code>--text</code></pre>"),
    ],
)
def test_code_in_text_breaks_between_words(html: str, broken: str) -> None:
    assert hooks.well_broken(html) == broken


@pytest.mark.parametrize(
    ("title", "anchor"),
    [("Which model do I need?", "which-model-do-i-need"), ("`a_b`: C, d", "a_b-c-d"), ("1. Lay out", "1-lay-out")],
)
def test_anchors_are_those_of_github(title: str, anchor: str) -> None:
    assert hooks.github_slug(title, "-") == anchor


@pytest.mark.parametrize("page", sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")]), ids=lambda page: page.name)
def test_lists_and_tables_follow_a_blank_line(page: Path) -> None:
    """GitHub does without one, MkDocs does not."""
    text = re.sub(r"^```.*?^```$", "```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = text.splitlines()
    starts = re.compile(r"(?:[*-]|\d+\.) |\|")
    glued = [
        line
        for before, line in pairwise(lines)
        if starts.match(line) and before and not starts.match(before) and before[0] not in " #"
    ]
    assert glued == []
