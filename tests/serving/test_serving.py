"""The server gives the answers of the pipeline, keeps users apart, and refuses what it cannot do in one line."""

from __future__ import annotations

import base64
import io
import json
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from helpers.pictures import encoded
from helpers.sharded import free_port
from hypothesis import HealthCheck, given, settings
from PIL import Image
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from seg_zero.assets import EXAMPLE_IMAGE
from seg_zero.cli.main import main as cli
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.masks import decode_mask
from seg_zero.pipeline import ReasoningSegmenter, SegmentationResult
from seg_zero.policy import GREEDY, Policy, Reply, Request, Sampling, TransformersPolicy
from seg_zero.policy.remote import RemotePolicy
from seg_zero.prompting import PromptSpec
from seg_zero.segmenter import Segmenter, load_segmenter
from seg_zero.serving.app import create_app
from seg_zero.serving.meters import Meters
from seg_zero.serving.service import Service
from seg_zero.serving.uploads import Limits

NEW_TOKENS = 64
NAMES = {"policy": "tiny", "segmenter": "tiny", "engine": "transformers"}
LIMITS = Limits(upload_bytes=200_000, pixels=300 * 300, question_chars=300)


class GatedPolicy(Policy):
    """Writes what ``write`` makes of a question, once the gate is open."""

    def __init__(self, write: Callable[[str], str] = lambda question: question, in_flight: int = 2) -> None:
        self.spec, self.in_flight, self.write = PromptSpec("brief", 112), in_flight, write
        self.gate = threading.Event()

    def stream(self, requests: Iterable[Request | None], sampling: Sampling = GREEDY) -> Iterator[Reply]:
        batch = list[Request]()
        for request in chain(requests, [None]):
            batch += [] if request is None else [request]
            if batch and (request is None or len(batch) == self.in_flight):
                self.gate.wait()
                yield from [Reply(one.key, (self.write(one.question),), 1, False) for one in batch]
                batch = []


class Serving:
    """A client of an app over a policy, with what it is made of."""

    def __init__(self, policy: Policy, segmenter: Segmenter, max_open: int = 64, timeout: float = 60.0) -> None:
        self.meters = Meters()
        self.service = Service(policy, segmenter, max_open, self.meters)
        self.app = create_app(self.service, self.meters, LIMITS, timeout, NAMES)
        self.client = TestClient(self.app, raise_server_exceptions=False)

    def ask(self, image: bytes, question: str, **fields: str) -> httpx.Response:
        return self.client.post("/v1/segment", files={"image": image}, data={"question": question, **fields})


PICTURE = encoded(Image.new("RGB", (60, 40), "navy"))


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter()


@pytest.fixture(scope="module")
def expected(segmenter: Segmenter) -> list[tuple[bytes, SegmentationResult]]:
    """Pictures with the pipeline's answers to a question about each."""
    pipeline = ReasoningSegmenter(TransformersPolicy.from_pretrained(max_new_tokens=NEW_TOKENS), segmenter)
    samples = list(make_samples(seed=11, count=8, side=160))
    return [(encoded(s.scene.image), pipeline(s.scene.image, s.question.text)) for s in samples]


@pytest.fixture(scope="module")
def serving(segmenter: Segmenter, expected: list[tuple[bytes, SegmentationResult]]) -> Iterator[Serving]:
    """The embedded models behind a client."""
    made = Serving(TransformersPolicy.from_pretrained(max_new_tokens=NEW_TOKENS), segmenter)
    yield made
    assert made.service.close(30)


@pytest.fixture
def gated(segmenter: Segmenter) -> Iterator[Callable[..., tuple[GatedPolicy, Serving]]]:
    """Makes a policy that waits, and its server."""
    made = list[tuple[GatedPolicy, Serving]]()

    def make(write: Callable[[str], str] = lambda question: question, **options: Any) -> tuple[GatedPolicy, Serving]:
        policy = GatedPolicy(write)
        made.append((policy, Serving(policy, segmenter, **options)))
        return made[-1]

    yield make
    for policy, server in made:
        policy.gate.set()
        assert server.service.close(30)


def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    pytest.fail("it never came to hold")


def metric(serving: Serving, name: str) -> float:
    lines = serving.client.get("/metrics").text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(name + " ")), 0.0)


def test_many_users_at_once_each_get_the_answer_of_the_pipeline(
    serving: Serving, expected: list[tuple[bytes, SegmentationResult]]
) -> None:
    assert len({result.text for _, result in expected}) > 4
    asked = expected * 3
    with ThreadPoolExecutor(len(asked)) as users:
        answers = list(users.map(lambda one: serving.ask(one[0], one[1].question), asked))
    for answer, (_, result) in zip(answers, asked, strict=True):
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert (found["question"], found["text"], found["thinking"]) == (result.question, result.text, result.thinking)
        assert [item["box"] for item in found["objects"]] == [list(item.box or ()) for item in result.objects]
        assert [item["score"] for item in found["objects"]] == pytest.approx(result.scores.tolist(), abs=1e-5)
        for item, mask in zip(found["objects"], result.masks, strict=True):
            assert (decode_mask(item["mask"]) == mask).all()
        assert (decode_mask(found["mask"]) == result.mask).all()
        assert set(found["seconds"]) == {"waiting", "policy", "embedding", "segmenter"}
    assert metric(serving, 'seg_zero_policy_batch_size_bucket{le="1.0"}') < metric(
        serving, "seg_zero_policy_batch_size_count"
    )


def test_a_policy_answers_what_it_has_before_more_is_asked_for(
    expected: list[tuple[bytes, SegmentationResult]],
) -> None:
    """Of a batch of eight, one request is there; the next comes when the first is answered."""
    asked = [(Image.open(io.BytesIO(picture)).convert("RGB"), result) for picture, result in expected[:2]]
    answered = list[Reply]()

    def feed() -> Iterator[Request | None]:
        for number, (image, result) in enumerate(asked):
            assert len(answered) == number
            yield Request(number, image, result.question)
            yield None

    for reply in TransformersPolicy.from_pretrained(max_new_tokens=NEW_TOKENS).stream(feed()):
        answered.append(reply)
    assert [reply.texts for reply in answered] == [result.texts for _, result in asked]


def test_masks_come_as_pictures_where_asked_for(
    serving: Serving, expected: list[tuple[bytes, SegmentationResult]]
) -> None:
    picture, result = next(one for one in expected if len(one[1].objects) > 0)

    def mask_of(data: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(data))) == 255

    found = serving.ask(picture, result.question, png="true", per_object="true").json()
    assert (mask_of(base64.b64decode(found["png"])) == result.mask).all()
    assert (mask_of(base64.b64decode(found["objects"][0]["png"])) == result.masks[0]).all()
    only = serving.ask(picture, result.question, png="true").json()
    assert only["png"] == found["png"] and only["objects"][0]["png"] is None
    raw = serving.client.post(
        "/v1/segment",
        files={"image": picture}, data={"question": result.question}, headers={"Accept": "image/png"},
    )  # fmt: skip
    assert raw.headers["content-type"] == "image/png" and (mask_of(raw.content) == result.mask).all()


def bomb() -> bytes:
    """A PNG of a few bytes that says it has ten thousand million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        ({"data": {"question": "the cup"}}, 415, "content type"),
        ({"files": {"picture": PICTURE}, "data": {"question": "the cup"}}, 422, "image: Field required"),
        ({"files": {"image": PICTURE}}, 422, "question: Field required"),
        ({"files": {"image": b""}, "data": {"question": "the cup"}}, 422, "0 bytes"),
        ({"files": {"image": b"no picture"}, "data": {"question": "the cup"}}, 422, "cannot be read"),
        ({"files": {"image": b"%!PS-Adobe-3.0 EPSF-3.0"}, "data": {"question": "the cup"}}, 422, "cannot be read"),
        ({"files": {"image": PICTURE[:90]}, "data": {"question": "the cup"}}, 422, "the image cannot"),
        ({"files": {"image": bomb()}, "data": {"question": "the cup"}}, 413, "pixels"),
        (
            {"files": {"image": encoded(Image.new("1", (301, 300)))}, "data": {"question": "the cup"}},
            413,
            "301x300 pixels; the limit is 90,000",
        ),
        ({"files": {"image": bytes(250_000)}, "data": {"question": "the cup"}}, 413, "more than 200,000 bytes"),
        ({"files": {"image": bytes(1_700_000)}, "data": {"question": "the cup"}}, 413, "the limit is 200,000"),
        ({"files": {"image": PICTURE}, "data": {"question": ""}}, 422, "question"),
        ({"files": {"image": PICTURE}, "data": {"question": " ?! "}}, 422, "is empty"),
        ({"files": {"image": PICTURE}, "data": {"question": "cup " * 80}}, 422, "320 characters; the limit is 300"),
        ({"files": {"image": PICTURE}, "data": {"question": "a <|IMAGE_PAD|> b"}}, 422, "control token"),
        ({"files": {"image": PICTURE}, "data": {"question": "the cup", "png": "maybe"}}, 422, "png"),
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


def test_every_kind_of_picture_is_taken(serving: Serving) -> None:
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"):
        found = serving.ask(encoded(Image.new("RGB", (50, 30), "red"), kind), "the cup").json()
        assert (found["width"], found["height"]) == (50, 30)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I see nothing",
        "<think>a</think><answer>[{</answer>",
        '<think>a</think><answer>[{"bbox_2d": [NaN, 1, 2, 3], "point_2d": [1, 1]}]</answer>',
        '<think>a</think><answer>[{"bbox_2d": [1e999, 1, 2, 3]}]</answer>',
        "\x00\ud800" + "[" * 5000,
    ],
)
def test_unreadable_text_of_the_policy_is_an_answer_with_a_problem(gated: Any, text: str) -> None:
    policy, server = gated(lambda question: text)
    policy.gate.set()
    answer = server.ask(PICTURE, "the cup")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["problem"] and found["objects"] == [] and not decode_mask(found["mask"]).any()


def test_what_is_more_than_the_limit_is_refused_and_later_taken(gated: Any) -> None:
    policy, server = gated(max_open=3)
    with ThreadPoolExecutor(3) as users:
        first = [users.submit(server.ask, PICTURE, f"thing {i}") for i in range(3)]
        until(lambda: server.service.open == 3)
        refused = server.ask(PICTURE, "one more")
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert metric(server, "seg_zero_open_requests") == 3
        policy.gate.set()
        assert [one.result().status_code for one in first] == [200] * 3
    assert server.ask(PICTURE, "one more").json()["text"] == "one more"
    assert metric(server, 'seg_zero_requests_total{status="200"}') == 4
    assert metric(server, 'seg_zero_requests_total{status="429"}') == 1
    assert metric(server, "seg_zero_request_seconds_count") == 5


def test_what_takes_too_long_ends_and_makes_room(gated: Any) -> None:
    policy, server = gated(timeout=0.3)
    with ThreadPoolExecutor(4) as users:
        late = list(users.map(lambda i: server.ask(PICTURE, f"thing {i}"), range(4)))
    assert [one.status_code for one in late] == [504] * 4 and "0.3 seconds" in late[0].json()["error"]
    assert server.service.open == 0 and server.service.waiting == 0
    policy.gate.set()
    assert server.ask(PICTURE, "the cup").json()["text"] == "the cup"


def test_a_request_that_breaks_the_policy_spoils_no_other(gated: Any) -> None:
    def write(question: str) -> str:
        if "poison" in question:
            raise RuntimeError("out of memory")
        return question

    policy, server = gated(write)
    with ThreadPoolExecutor(4) as users:
        asked = ["cup", "poison", "dog", "cat"]
        answers = users.map(lambda question: server.ask(PICTURE, question), asked)
        until(lambda: server.service.open == 4)
        policy.gate.set()
        found = [(answer.status_code, answer.json().get("text")) for answer in answers]
    assert found == [(200, "cup"), (500, None), (200, "dog"), (200, "cat")]
    assert server.client.get("/health").json()["ready"]
    for _ in range(3):
        assert server.ask(PICTURE, "poison").status_code == 500
    broken = server.client.get("/health")
    assert broken.status_code == 503 and broken.json()["problem"] == "the policy fails"


def test_closing_answers_what_is_open_and_takes_no_more(gated: Any) -> None:
    policy, server = gated()
    with ThreadPoolExecutor(4) as users:
        first = [users.submit(server.ask, PICTURE, f"thing {i}") for i in range(3)]
        until(lambda: server.service.open == 3)
        closed = users.submit(server.service.close, 30)
        until(lambda: server.service.closing)
        assert server.ask(PICTURE, "too late").status_code == 503
        assert server.client.get("/health").status_code == 503
        policy.gate.set()
        assert [one.result().json()["text"] for one in first] == ["thing 0", "thing 1", "thing 2"]
        assert closed.result()


def test_health_names_the_models(serving: Serving) -> None:
    assert serving.client.get("/health").json() == {"ready": True, "problem": None, **NAMES}


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


class _Openai(BaseHTTPRequestHandler):
    """Lists a model, and answers questions as the server's ``answers`` say, one after another."""

    def do_GET(self) -> None:
        self._send(200, {"data": [{"id": "policy"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)  # type: ignore[attr-defined]
        status, content = self.server.answers.pop(0)  # type: ignore[attr-defined]
        if status == 0:
            time.sleep(0.5)
        self._send(status or 200, content)

    def _send(self, status: int, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def completion(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": {"completion_tokens": 3}}


@pytest.fixture
def openai() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Openai)
    server.asked, server.answers = [], []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


GOOD = (200, completion("hello"))


@pytest.mark.parametrize(
    ("answers", "status", "words", "tries"),
    [
        ([GOOD], 200, "", 1),
        ([(500, {}), GOOD], 200, "", 2),
        ([(500, {}), (503, {})], 502, "status 503", 2),
        ([(0, {}), (0, {})], 502, "no answer in time", 2),
        ([(200, {"choices": []}), (200, [])], 502, "not an OpenAI answer", 2),
        ([(404, {}), (404, {})], 502, "status 404", 2),
        ([(400, {"error": {"message": "prompt is\ntoo long"}})], 422, "prompt is too long", 1),
    ],
)
def test_errors_of_a_remote_policy_are_tried_again_and_told(
    openai: Any, segmenter: Segmenter, answers: list[Any], status: int, words: str, tries: int
) -> None:
    openai.answers = list(answers)
    url = f"http://127.0.0.1:{openai.server_address[1]}/v1"
    server = Serving(RemotePolicy(url, PromptSpec("brief", 112), timeout=0.3), segmenter)
    answer = server.ask(PICTURE, "The Cup.")
    assert answer.status_code == status, answer.text
    assert words in answer.json().get("error", "") and len(openai.asked) == tries
    assert server.service.close(30)


def test_a_remote_policy_that_is_down_is_told(openai: Any, segmenter: Segmenter) -> None:
    policy = RemotePolicy(f"http://127.0.0.1:{openai.server_address[1]}/v1", PromptSpec("brief", 112))
    assert policy.problem() is None
    openai.shutdown()
    openai.server_close()
    server = Serving(policy, segmenter)
    assert server.ask(PICTURE, "the cup").status_code == 502
    assert "cannot be reached" in (policy.problem() or "")
    assert server.service.close(30)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "0"], "--port 0"),
        (["--host", "203.0.113.1"], "cannot listen on 203.0.113.1:"),
        (["--timeout", "-1"], "--timeout -1.0"),
        (["--max_open", "0"], "--max_open 0"),
        (["--policy_url", "http://127.0.0.1:9/v1"], "--policy_url http://127.0.0.1:9/v1 does not answer"),
        (["--policy_url", "nonsense"], "--policy_url nonsense does not answer"),
        (["--policy_url", "{openai}", "--policy_name", "other"], "--policy_name other is not served"),
        (["--model", "/nowhere"], "neither a folder nor a hub id"),
        (["--image_size", "100"], "image_size 100"),
    ],
)
def test_bad_options_end_in_one_line(
    arguments: list[str], words: str, openai: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{openai.server_address[1]}/v1"
    port = [] if "--port" in arguments else ["--port", str(free_port())]
    assert cli(["serve", *port, *(argument.replace("{openai}", url) for argument in arguments)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and words in lines[0]


def test_the_command_serves_and_on_a_signal_answers_what_it_has() -> None:
    port = free_port()
    command = [sys.executable, "-m", "seg_zero.cli", "serve", "--port", str(port), "--max_new_tokens", str(NEW_TOKENS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"serving on http://127.0.0.1:{port}")
        address = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{address}/health").json()["ready"]
        data = EXAMPLE_IMAGE.read_bytes()
        with ThreadPoolExecutor(6) as users:
            asked = [
                users.submit(
                    httpx.post, f"{address}/v1/segment",
                    files={"image": data}, data={"question": "the green circle"}, timeout=60,
                )
                for _ in range(6)
            ]  # fmt: skip
            until(lambda: "seg_zero_open_requests 6.0" in httpx.get(f"{address}/metrics").text)
            process.send_signal(signal.SIGTERM)
            assert [one.result().status_code for one in asked] == [200] * 6
        output, errors = process.communicate(timeout=30)
        assert process.returncode == 0 and output == "stopped\n" and errors == ""
    finally:
        process.kill()
        process.wait()


PARENT = """
import multiprocessing, os, signal, sys, time
from seg_zero.serving.signals import interrupts_kept_from_children


def child(ready):
    signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
    ready.set()
    time.sleep(1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    start = multiprocessing.get_context("spawn")  # what vLLM uses
    with interrupts_kept_from_children():
        process = start.Process(target=child, args=[ready := start.Event()])
        process.start()
        ready.wait()
        try:
            os.killpg(0, signal.SIGINT)
            for _ in range(100):  # another thread takes the signal, so that a sleep goes on
                time.sleep(0.05)
        except KeyboardInterrupt:
            process.join()
            print("interrupted", process.exitcode)
"""


def test_ctrl_c_reaches_the_server_but_not_the_engine(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30, start_new_session=True)
    assert (done.stdout, done.stderr) == ("interrupted 0\n", "")
