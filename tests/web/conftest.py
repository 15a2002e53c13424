"""A running page over the embedded models, and browsers that open it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from helpers.remote_sensing import telling_network
from helpers.sharded import free_port

from seg_zero.pipeline import ReasoningSegmenter
from seg_zero.remote_sensing.model.files import save_network

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ELSEWHERE = "requests that leave this machine"


@pytest.fixture(scope="package")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small network for aerial tiles, of random weights."""
    folder = tmp_path_factory.mktemp("network")
    save_network(telling_network(), folder)
    return str(folder)


@contextmanager
def running_page(*options: str) -> Iterator[str]:
    """The address of a page over the embedded models, which must say nothing else and stop when it is told to.

    It runs in an empty folder: where a demo has been, it would name the policy that was trained there.
    """
    port = free_port()
    line = [sys.executable, "-m", "seg_zero.cli", "web", "--port", str(port), *options]
    with (
        TemporaryDirectory() as folder,
        subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("warning: the embedded policy knows only synthetic shapes")
            said = server.stdout.readline()
            assert said == f"page on http://127.0.0.1:{port}\n", said
            yield said.split()[-1]
            server.send_signal(signal.SIGTERM)
            rest = server.communicate(timeout=30)[0]
            assert rest == "stopped\n" and server.returncode == 0, rest
        finally:
            server.kill()


@pytest.fixture(scope="package")
def address(network: str) -> Iterator[str]:
    """A running page over the embedded models, and a network for aerial tiles."""
    limits = ("--max_upload_mb", "1", "--max_megapixels", "1")
    with running_page(*limits, "--label_backbone", "tiny", "--remote_sensing_model", network) as there:
        yield there


@pytest.fixture
def address_of_short_answers() -> Iterator[str]:
    """A page whose policy has room for a hasty answer, and not for a careful one."""
    with running_page("--max_new_tokens", "40") as there:
        yield there


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Opens the page for a new user each time; fails if anything was fetched from elsewhere or a script failed."""
    contexts, addresses, complaints = [], list[str](), list[str]()

    def make(width: int = 1280, at: str = address, **options: Any) -> Page:
        addresses.append(at)
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(90_000)  # a busy machine
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: note(request.url))
        page.goto(at)
        page.wait_for_selector("#ask")
        page.wait_for_selector("#examples img")
        return page

    def note(url: str) -> None:
        if not url.startswith((*addresses, "data:", "blob:")):
            complaints.append(f"{ELSEWHERE}: {url}")

    yield make
    for context in contexts:
        context.close()
    assert not complaints


@pytest.fixture(scope="package")
def pipeline() -> ReasoningSegmenter:
    return ReasoningSegmenter.from_pretrained()
