"""What the server refuses, in one line; no request breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from helpers.pictures import png_header
from helpers.serving import PICTURE, Serving
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        ({"data": {"question": "the cup"}}, 415, "content type"),
        (
            {"files": {"picture": PICTURE}, "data": {"question": "the cup"}},
            422,
            "form field 'picture' is unknown; this request takes image, question, png, per_object",
        ),
        ({"files": {"image": PICTURE}, "data": {"question": "the cup", "refine": "1"}}, 422, "'refine' is unknown"),
        ({"files": {"image": PICTURE}}, 422, "question: Field required"),
        ({"files": {"image": b""}, "data": {"question": "the cup"}}, 422, "0 bytes"),
        ({"files": {"image": b"no picture"}, "data": {"question": "the cup"}}, 422, "cannot be read"),
        ({"files": {"image": b"%!PS-Adobe-3.0 EPSF-3.0"}, "data": {"question": "the cup"}}, 422, "cannot be read"),
        ({"files": {"image": PICTURE[:90]}, "data": {"question": "the cup"}}, 422, "the image cannot"),
        ({"files": {"image": png_header(100_000, 100_000)}, "data": {"question": "the cup"}}, 413, "pixels"),
        (
            {"files": {"image": png_header(12_000, 10_001)}, "data": {"question": "the cup"}},
            413,
            "12000x10001 pixels; the limit is 120,000,000",
        ),
        ({"files": {"image": bytes(250_000)}, "data": {"question": "the cup"}}, 413, "more than 200,000 bytes"),
        ({"files": {"image": bytes(1_700_000)}, "data": {"question": "the cup"}}, 413, "the limit is 200,000"),
        ({"files": {"image": PICTURE}, "data": {"question": ""}}, 422, "question"),
        ({"files": {"image": PICTURE}, "data": {"question": " ?! "}}, 422, "is empty"),
        ({"files": {"image": PICTURE}, "data": {"question": "cup " * 80}}, 422, "320 characters; the limit is 300"),
        ({"files": {"image": PICTURE}, "data": {"question": "a <|IMAGE_PAD|> b"}}, 422, "control token"),
        ({"files": {"image": PICTURE}, "data": {"question": "the cup", "png": "maybe"}}, 422, "png"),
        (
            {"files": [("image", PICTURE), ("question", (None, "a")), ("question", (None, "b"))]},
            422,
            "'question' is given 2 times; give it once",
        ),
        ({"json": {"question": "the cup"}}, 415, "is 'application/json'"),
        ({"content": b"--x\r\nrubbish", "headers": FORM}, 422, "image: Field required"),
        ({"content": b"rubbish", "headers": FORM}, 400, ""),
        ({"content": b"", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
        ({"content": b""}, 415, "content type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_requests_get_one_line(serving: Serving, request_: dict[str, Any], status: int, words: str) -> None:
    answer = serving.client.post("/v1/segment", **request_)
    assert answer.status_code == status, answer.text
    line = answer.json()["error"]
    assert words in line and "\n" not in line and line


def test_other_methods_and_paths_are_refused(serving: Serving) -> None:
    assert serving.client.get("/v1/segment").status_code == 405
    assert serving.client.get("/v1/nothing").json() == {"error": "Not Found"}


def test_a_body_without_a_length_is_bounded_too(serving: Serving) -> None:
    def endless() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(1000):
            yield bytes(10_000)

    assert serving.client.post("/v1/segment", content=endless(), headers=FORM).status_code == 413


def test_no_request_that_fits_the_schema_breaks_the_server(gated: Any) -> None:
    policy, server = gated()
    policy.gate.set()
    schema = schemathesis.openapi.from_asgi("/openapi.json", server.app)
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    calls = 0
    for result in schema.get_all_operations():

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=result.ok().as_strategy())
        def call(case: Any) -> None:
            nonlocal calls
            calls += 1
            case.call_and_validate(checks=checks)

        call()
    assert calls > 40
