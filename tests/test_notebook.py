"""The notebook of the docs runs from start to end, without network, and shows what its text says."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import nbformat
import pytest
from helpers.notebooks import run_notebook
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
    assert "'all circles'" in shown(cells[5], "text/plain")
    assert shown(cells[6], "text/plain").startswith("(array([[")


def test_the_notebook_is_stored_without_outputs() -> None:
    stored = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(stored)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in stored.cells)
