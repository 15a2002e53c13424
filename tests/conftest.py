"""What holds for all tests: marks set by fixture, no skipped test in CI; and what many ask for: browser, SAM2, clip."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from helpers.chromium import find_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from seg_zero.data.synthetic.clips import Clip
    from seg_zero.segmenter import Segmenter

IN_CI = os.environ.get("CI", "") not in ("", "0", "false")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, without a page."""
    from playwright.sync_api import sync_playwright

    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium on this machine; python tests/helpers/chromium.py installs one")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def sam2() -> Segmenter:
    """The embedded one, on the CPU."""
    from seg_zero.segmenter import load_segmenter

    return load_segmenter("tiny", device="cpu")


@pytest.fixture(scope="module")
def shapes() -> Clip:
    """Three shapes that move slowly."""
    from seg_zero.data.synthetic.clips import make_clip

    return make_clip(3, shapes=3, max_speed=0.015)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


def _refuse_skip(report: Any) -> None:
    """In CI a skipped test is a failed one: it would go unseen there, and with it what it checks."""
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"with CI={os.environ['CI']} no test may be skipped: {reason}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    outcome: Any = yield
    _refuse_skip(outcome.get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    outcome: Any = yield
    _refuse_skip(outcome.get_result())
