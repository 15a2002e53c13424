"""Runs notebooks, and the code of documentation pages as notebooks, in the interpreter of the tests.

python tests/helpers/notebooks.py       # stores the outputs of docs/notebook.ipynb in it
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
# A fenced block with what stands before it, if that says that it cannot run here.
_BLOCK = re.compile(r"(<!-- not run -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_RUNS = {"bash": "%%bash\nset -euo pipefail\n", "python": ""}


def run_notebook(notebook: Any, folder: Path, seconds: int = 100) -> list[Any]:
    """The code cells of ``notebook`` after they were run from start to end in ``folder``, without network.

    seconds: the longest that a cell may take.
    """
    kernels = folder / "kernels" / "python3"
    kernels.mkdir(parents=True)
    command = f'["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    (kernels / "kernel.json").write_text(f'{{"argv": {command}, "display_name": "tests", "language": "python"}}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        NotebookClient(notebook, timeout=seconds, resources={"metadata": {"path": str(folder)}}).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def page_as_notebook(text: str) -> Any:
    """A notebook of the bash and Python blocks of a page, in order.

    A block after the comment ``<!-- not run -->`` is omitted. A block of ``text`` right behind one is what it prints,
    kept in the cell's metadata as ``shows``.
    """
    notebook = nbformat.v4.new_notebook()
    end = 0
    for match in _BLOCK.finditer(text):
        apart, kind, code = match[1], match[2], match[3]
        if kind in _RUNS and not apart:
            notebook.cells.append(nbformat.v4.new_code_cell(_RUNS[kind] + code))
        elif kind == "text" and notebook.cells and not text[end : match.start()].strip():
            notebook.cells[-1].metadata["shows"] = code
        end = match.end()
    return notebook


def printed(cell: Any) -> str:
    """Standard output of a cell that was run."""
    return "".join(out["text"] for out in cell.outputs if out.output_type == "stream" and out.name == "stdout")


def looks_like(shown: str, output: str) -> bool:
    """Whether ``output`` is what a page shows: ``…`` stands for any characters of a line, alone for any lines."""
    pattern = re.escape(shown.strip()).replace(re.escape("…"), "…")
    pattern = re.sub(r"(?m)^…(\\\n|\n|$)", lambda match: "(?:.*\n?)*?" if match[1] else "(?:.*\n?)*", pattern)
    return re.fullmatch(pattern.replace("…", ".*"), output.strip()) is not None


def as_stored(outputs: list[Any]) -> list[Any]:
    """Outputs of a cell without progress bars and warnings; pictures as JPEG alone, without this machine's paths."""
    kept = [nbformat.from_dict(out) for out in outputs if out.get("name") != "stderr"]
    for out in kept:
        if "image/png" in out.get("data", {}):
            written = io.BytesIO()
            Image.open(io.BytesIO(base64.b64decode(out.data["image/png"]))).convert("RGB").save(
                written, "JPEG", quality=85
            )
            out.data = nbformat.from_dict({"image/jpeg": base64.b64encode(written.getvalue()).decode()})
        out.pop("execution_count", None)
        if out.output_type == "execute_result":
            out.execution_count = None
    return kept


def store_outputs(path: Path) -> None:
    """Run a notebook and store what it shows in it."""
    stored = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        cells = run_notebook(nbformat.read(path, as_version=4), Path(folder))
    for cell, ran in zip((cell for cell in stored.cells if cell.cell_type == "code"), cells, strict=True):
        cell.outputs, cell.execution_count = as_stored(ran.outputs), None
    nbformat.write(stored, path)


if __name__ == "__main__":
    store_outputs(NOTEBOOK)
