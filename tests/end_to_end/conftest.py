"""Marks the tests of this folder, and runs their jobs beside the tests (tests/helpers/background.py)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.background import Background

HERE = Path(__file__).parent
# Jobs start in the order of the tests that need them: those with the longest first, so that none runs alone at the end.
LONGEST_FIRST = (
    "test_resume",
    "test_two_nodes",
    "test_training",
    "test_policies",
    "test_dialogue_training",
    "test_dynamic_sampling",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    if ours and "PYTEST_XDIST_WORKER" in os.environ:
        raise pytest.UsageError("the end-to-end tests divide the machine themselves; run them without -n")
    for item in ours:
        item.add_marker(pytest.mark.end_to_end)
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    ours.sort(key=lambda item: places.get(item.path.stem, len(places)))  # stable: the others keep their order
    items[:] = [*ours, *(item for item in items if not item.path.is_relative_to(HERE))]


@pytest.fixture(scope="session")
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Background]:
    """Gives the result of a job that the test names in its mark ``background``."""
    marks = [mark for item in request.session.items for mark in item.iter_markers("background")]
    background = Background((job for mark in marks for job in mark.args), tmp_path_factory.mktemp)
    yield background
    background.close()
