"""Values from the code of published systems, kept beside the tests that must meet them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

TESTS = Path(__file__).resolve().parents[1]


def golden_files(room: str, pattern: str) -> list[str]:
    """Names, without ending, of the files of ``tests/ROOM/golden`` that match; fails if there is none."""
    found = sorted(path.stem for path in (TESTS / room / "golden").glob(f"{pattern}.npz"))
    assert found, f"no golden file of {room} is called {pattern}"
    return found


def load_golden(room: str, name: str) -> dict[str, np.ndarray]:
    with np.load(TESTS / room / "golden" / f"{name}.npz") as data:
        return {key: data[key] for key in data.files}


def tensors(data: dict[str, np.ndarray], *names: str) -> Iterator[torch.Tensor]:
    return (torch.from_numpy(data[name]) for name in names)


def wave_image(height: int, width: int, phase: float = 0.0) -> torch.Tensor:
    """The image of the golden files of windows: 1 x 3 x H x W, waves that differ by channel."""
    c, y, x = np.ogrid[:3, :height, :width]
    return torch.from_numpy((0.5 + 0.5 * np.sin(0.013 * (c + 1) * y + 0.017 * (c + 2) * x + c + phase))[None]).float()


class StubBackbone:
    """A linear map of each patch plus a slope over the window's rows and columns, as in the golden files."""

    def __init__(self, data: dict[str, np.ndarray]) -> None:
        self.weight, self.slope = tensors(data, "W", "slope")
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(images.shape))
        features = F.conv2d(images, self.weight.reshape(-1, 3, 16, 16), stride=16)
        rows = torch.arange(features.shape[2])[None, :, None] * self.slope[0][:, None, None]
        columns = torch.arange(features.shape[3])[None, None, :] * self.slope[1][:, None, None]
        return features + rows + columns
