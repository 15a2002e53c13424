"""Values of the original's code, and small scenes, for the tests of online 3D segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).resolve().parents[1] / "online3d" / "golden"


def golden(name: str) -> dict[str, Any]:
    """The arrays of a file of tests/online3d/golden by name."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}
