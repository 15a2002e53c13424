"""The server's plain pages, its access log, and which web pages may ask."""

from __future__ import annotations

import html
import logging
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.serving import NAMES, PICTURE

from seg_zero.serving.guard import access

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_the_root_says_what_this_is_and_where_to_go(gated: Any) -> None:
    _, server = gated(warning="it <only> knows shapes")
    found = server.client.get("/").json()
    assert found["name"] == "seg-zero" and found.items() >= NAMES.items()
    assert found["segment"] == "POST /v1/segment" and found["warning"] == "it <only> knows shapes"
    page = server.client.get("/", headers=BROWSER)
    assert page.headers["content-type"].startswith("text/html") and "it &lt;only&gt; knows shapes" in page.text
    command = html.unescape(re.findall("<pre>(.*?)</pre>", page.text)[0])
    assert shlex.split(command)[-1] == f"{str(server.client.base_url).rstrip('/')}/v1/segment"  # to be copied as it is
    links = re.findall(r'href="(.*?)"', page.text)
    assert len(links) == 4 and all(server.client.get(f"/{link}").status_code == 200 for link in links)


def test_the_docs_describe_every_route_and_field_without_scripts(gated: Any) -> None:
    _, server = gated()
    page = server.client.get("/docs")
    assert page.status_code == 200 and "script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    schema = server.client.get("/openapi.json").json()
    for path in schema["paths"]:
        assert path in page.text
    names = {
        name
        for kind in ("SegmentAnswer", "FoundObject", "Problem")
        for name in schema["components"]["schemas"][kind]["properties"]
    }
    for name in {"image", "question", "png", "per_object", "429", *names}:
        assert f">{name}<" in page.text, name
    assert "(application/x-www-form-urlencoded)" in page.text and "May name rounds" in page.text
    for route in page.text.split("<h2><code>")[1:]:
        statuses = re.findall(r"<td>(?:<b>|<code>)?(\d{3})<", route.split("<h2 id=")[0])
        assert statuses and statuses == sorted(statuses), route[:60]
        if route.startswith(("GET", "DELETE")):
            assert "415" not in statuses and "Not a form" not in route
    assert "HEIC" in page.text and not re.search(r'(src|href)="https?:', page.text)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the access log says."""
    said = list[str]()

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler = Keep()
    access.addHandler(handler)
    level = access.level
    access.setLevel(logging.INFO)
    yield said
    access.removeHandler(handler)
    access.setLevel(level)


def test_every_request_is_a_line_of_the_access_log(gated: Any, lines: list[str]) -> None:
    policy, server = gated()
    policy.gate.set()
    server.ask(PICTURE, "the cup")
    server.client.post("/v1/segment")
    server.client.get("/no%0Anew%0Alines?question=secret")
    patterns = ('"POST /v1/segment" 200', '"POST /v1/segment" 415', '"GET /no%0Anew%0Alines" 404')
    assert len(lines) == len(patterns)
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(rf"testclient {pattern} \d+ ms", line), line


def test_pages_of_named_origins_may_ask_and_no_others(gated: Any) -> None:
    policy, server = gated(cors_origins=["https://app.example"])
    policy.gate.set()
    ask: dict[str, Any] = {"files": {"image": PICTURE}, "data": {"question": "the cup"}}
    allowed = "access-control-allow-origin"
    answer = server.client.post("/v1/segment", **ask, headers={"Origin": "https://app.example"})
    assert answer.headers[allowed] == "https://app.example"
    assert "X-Seg-Zero-Warning" in answer.headers["access-control-expose-headers"]
    assert allowed not in server.client.post("/v1/segment", **ask, headers={"Origin": "https://evil.example"}).headers
    large = server.client.post("/v1/segment", content=bytes(2_000_000), headers={"Origin": "https://app.example"})
    assert large.status_code == 413 and large.headers[allowed] == "https://app.example", "refusals are read, too"
    _, closed = gated()
    assert allowed not in closed.client.get("/", headers={"Origin": "https://app.example"}).headers
