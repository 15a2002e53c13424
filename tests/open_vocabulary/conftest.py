"""A small backbone for the tests that need a real one."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.radio import small_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted backbone of random weights with its text tower."""
    return small_folder(tmp_path_factory.mktemp("radio") / "small")
