"""Without a network a hub id fails within seconds, with the remedies; what was downloaded before is used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import datasets
import httpx
import pytest
from huggingface_hub import constants

from seg_zero import hub
from seg_zero.data import source
from seg_zero.errors import InputError
from seg_zero.policy.loading import load_policy
from seg_zero.policy.model_files import default_spec
from seg_zero.policy.processors import load_processor
from seg_zero.policy.remote import RemotePolicy
from seg_zero.prompting import PromptSpec
from seg_zero.segmenter import load_segmenter

CLOSED = "http://127.0.0.1:9"  # nobody listens on the discard port


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub whose port is closed, and an empty cache."""
    monkeypatch.setattr(constants, "ENDPOINT", CLOSED)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.setattr(hub, "_silent", set())


@pytest.mark.parametrize(
    ("load", "what"),
    [
        (load_policy, "policy nobody/model"),
        (load_processor, "policy nobody/model"),
        (load_segmenter, "segmenter nobody/model"),
        (source.open_rows, "dataset nobody/model"),
    ],
    ids=["policy", "processor", "segmenter", "dataset"],
)
@pytest.mark.usefixtures("no_hub")
def test_a_hub_id_without_network_fails_at_once_with_the_remedies(load: object, what: str) -> None:
    assert callable(load)
    source._load_hub.cache_clear()
    start = time.perf_counter()
    with pytest.raises(InputError) as raised:
        load("nobody/model")
    assert time.perf_counter() - start < 5  # the hub's client alone would retry for minutes
    line = str(raised.value)
    assert line.startswith(what) and CLOSED in line and "Connection refused" in line and "\n" not in line
    assert all(word in line for word in ("folder", "HF_ENDPOINT", "HF_HUB_OFFLINE=1", "hf download"))


@pytest.mark.usefixtures("no_hub")
def test_prompt_settings_of_an_unreachable_model_are_the_published_ones() -> None:
    start = time.perf_counter()
    assert default_spec("nobody/model") == PromptSpec("multi", 840)
    assert time.perf_counter() - start < 5


@pytest.mark.usefixtures("no_hub")
def test_what_was_downloaded_before_is_used_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: "/cache/config.json")
    hub._warn.cache_clear()
    hub.check_here("policy", "nobody/model")
    hub.check_here("segmenter", "nobody/other")
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1 and CLOSED in warning and "what was downloaded before is used" in warning
    assert constants.HF_HUB_OFFLINE and os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.usefixtures("no_hub")
def test_offline_by_wish_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_problem", lambda _: pytest.fail("the hub was asked"))
    with pytest.raises(InputError, match="policy nobody/model is not on this machine, and HF_HUB_OFFLINE is set"):
        hub.check_here("policy", "nobody/model")


class _Answers(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering_hub() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.usefixtures("no_hub")
def test_a_hub_that_answers_is_used(answering_hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", answering_hub)
    assert hub.unreachable() is None and not constants.HF_HUB_OFFLINE
    hub.check_here("policy", "nobody/model")


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "SECONDS", 0.2)
    monkeypatch.setattr("httpx.head", lambda *_, **__: time.sleep(30))
    assert hub._problem("http://slow.example") == "no answer in 0 s"


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("all_proxy", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def test_a_socks_proxy_without_its_package_is_one_line(proxies: pytest.MonkeyPatch) -> None:
    proxies.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    proxies.setattr("importlib.util.find_spec", lambda _: None)
    message = r"cannot use the proxy socks5://127\.0\.0\.1:9 \(all_proxy\) without .* `pip install socksio`"
    with pytest.raises(InputError, match=f"the page {message}"):
        hub.check_proxies("the page")
    with pytest.raises(InputError, match=rf"--policy_url http://10\.0\.0\.1:8/v1 {message}"):
        RemotePolicy("http://10.0.0.1:8/v1", PromptSpec())
    proxies.setenv("ALL_PROXY", "http://127.0.0.1:9")
    hub.check_proxies("the page")


@pytest.mark.usefixtures("no_hub")
def test_the_hub_behind_a_proxy_that_cannot_be_used_is_a_hub_out_of_reach(proxies: pytest.MonkeyPatch) -> None:
    proxies.setenv("ALL_PROXY", "gopher://127.0.0.1:9")
    hub._problem.cache_clear()
    with pytest.raises(InputError, match=r"policy nobody/model is not on this machine, and the hub .*gopher"):
        hub.check_here("policy", "nobody/model")
    hub._problem.cache_clear()


def test_own_addresses_need_no_proxy(answering_hub: str, proxies: pytest.MonkeyPatch) -> None:
    proxies.setenv("http_proxy", CLOSED)
    proxies.setenv("no_proxy", "example.com")
    proxies.setenv("NO_PROXY", "example.com")
    with pytest.raises(httpx.ConnectError):
        httpx.head(answering_hub)
    hub.exempt_own_addresses("10.0.0.7")
    assert httpx.head(answering_hub).status_code == 404
    assert os.environ["no_proxy"] == "example.com,localhost,127.0.0.1,::1,10.0.0.7" == os.environ["NO_PROXY"]


def test_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": CLOSED, "HF_HOME": str(tmp_path / "home")}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "seg_zero.cli", "infer", "--model", "nobody/model"],
        capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[1], timeout=100,
    )  # fmt: skip
    assert time.perf_counter() - start < 60  # imports on a busy machine included
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("error: policy nobody/model is not on this machine")
