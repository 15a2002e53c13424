"""The notebook of the docs runs from start to end, without network, and shows what its text says."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from helpers.notebooks import as_stored, printed, run_notebook
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The code cells after they were run in the interpreter of the tests."""
    return run_notebook(nbformat.read(NOTEBOOK, as_version=4), tmp_path_factory.mktemp("notebook"))


def shown(cell: Any, kind: str) -> str:
    return next(out["data"][kind] for out in cell.outputs if out.output_type == "execute_result")


def test_an_answer_is_shown_as_a_picture(cells: list[Any]) -> None:
    picture = Image.open(io.BytesIO(base64.b64decode(shown(cells[0], "image/png"))))
    assert picture.size == (448, 448)


def test_answers_files_rows_and_detections_are_those_of_the_text(cells: list[Any]) -> None:
    assert shown(cells[3], "text/plain") == "True"
    files = shown(cells[4], "text/plain")
    for name in ("example_overlay.png", "labelme/example.json", "example_coco.json", "example_label_studio.xml"):
        assert name in files
    assert "'the green circle', 1" in shown(cells[5], "text/plain")
    assert shown(cells[6], "text/plain").startswith("(array([[")


def test_the_answer_is_the_one_that_was_asked_for(cells: list[Any]) -> None:
    """The box lies on the green circle of the example scene."""
    assert printed(cells[1]).startswith("looks green\n1 (44.0, 0.0, 184.0, 104.0)")


def test_stored_outputs_are_those_of_a_run(cells: list[Any]) -> None:
    """`python tests/helpers/notebooks.py` stores them. Digits may differ between machines."""
    stored = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(stored)
    for was, ran in zip((cell for cell in stored.cells if cell.cell_type == "code"), cells, strict=True):
        assert was.execution_count is None
        assert [worded(out) for out in was.outputs] == [worded(out) for out in as_stored(ran.outputs)]


def worded(output: Any) -> str:
    """An output as text without digits and names of temporary folders, a picture as its size."""
    if "image/jpeg" in output.get("data", {}):
        return str(Image.open(io.BytesIO(base64.b64decode(output.data["image/jpeg"]))).size)
    text = output.text if output.output_type == "stream" else output.data["text/plain"]
    return re.sub(r"\S*/tmp\w+|[\d.]+", "0", text)


def test_notebooks_without_widgets_start_without_a_warning(cells: list[Any]) -> None:
    errors = "".join(out.text for cell in cells for out in cell.outputs if out.get("name") == "stderr")
    assert "only synthetic shapes" in errors and "IProgress" not in errors
