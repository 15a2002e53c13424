"""Runs notebooks, and the code of documentation pages as notebooks, in the interpreter of the tests."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
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
