"""The quick start runs block by block, and prints what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.notebooks import looks_like, page_as_notebook, printed, run_notebook
from nbclient.exceptions import CellExecutionError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "quickstart.md"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The blocks of the page after they were run, in one folder and, those of Python, in one interpreter."""
    notebook = page_as_notebook(PAGE.read_text(encoding="utf-8"))
    return run_notebook(notebook, tmp_path_factory.mktemp("quickstart"), seconds=250)


@pytest.mark.slow
@pytest.mark.timeout(500)  # a minute where nothing else runs
def test_blocks_print_what_the_page_shows(cells: list[Any]) -> None:
    shown = [(cell.metadata["shows"], printed(cell)) for cell in cells if "shows" in cell.metadata]
    assert len(shown) >= 5
    assert [pair for pair in shown if not looks_like(*pair)] == []


def test_blocks_are_read_in_order_with_what_they_show() -> None:
    page = "```bash\nls\n```\n\n```text\nfile\n```\n\n<!-- not run -->\n```bash\nrm file\n```\n"
    page += "\nText\n\n```text\nno output\n```\n"
    page += "\n```python\nprint(1)\n```\n\nBetween.\n\n```text\n1\n```\n"
    read = [(cell.source.splitlines()[-1], cell.metadata.get("shows")) for cell in page_as_notebook(page).cells]
    assert read == [("ls", "file\n"), ("print(1)", None)]


@pytest.mark.parametrize("block", ["```bash\nfalse\ntrue\n```\n", "```python\nraise ValueError\n```\n"])
def test_a_block_that_fails_is_an_error(block: str, tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError):
        run_notebook(page_as_notebook(block), tmp_path)


@pytest.mark.parametrize(
    ("shown", "output", "same"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\nb\n", "a\nc\n", False),
        ("score 0.…\n", "score 0.98\n", True),
        ("score 0.…\n", "score 0.98\nmore\n", False),
        ("a\n…\nz\n", "a\nb\nc\nz\n", True),
        ("a\n…\nz\n", "a\nz\n", True),
        ("a\n…\n", "a\nb\nc\n", True),
        ("a\n…\n", "b\nc\n", False),
        ("…\nz\n", "a\nb\nz\n", True),
        ("(1, 2) [3]\n", "(1, 2) [3]\n", True),
    ],
)
def test_output_is_compared_with_omissions(shown: str, output: str, same: bool) -> None:
    assert looks_like(shown, output) is same
