"""An app over a policy with a client, and policies that wait or answer what a test says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from itertools import chain
from typing import Any

import httpx
import pytest
from helpers.pictures import encoded
from PIL import Image
from starlette.testclient import TestClient

from seg_zero.policy import GREEDY, Policy, Reply, Request, Sampling
from seg_zero.prompting import PromptSpec
from seg_zero.segmenter import Segmenter
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

    def __init__(
        self, policy: Policy, segmenter: Segmenter, max_open: int = 64, timeout: float = 60.0, **options: Any
    ) -> None:
        self.meters = Meters()
        self.service = Service(policy, segmenter, max_open, self.meters)
        self.app = create_app(self.service, self.meters, LIMITS, timeout, NAMES, **options)
        self.client = TestClient(self.app, raise_server_exceptions=False)

    def ask(self, image: bytes, question: str, **fields: str) -> httpx.Response:
        return self.client.post("/v1/segment", files={"image": image}, data={"question": question, **fields})


PICTURE = encoded(Image.new("RGB", (60, 40), "navy"))


def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    pytest.fail("it never came to hold")


def metric(serving: Serving, name: str) -> float:
    lines = serving.client.get("/metrics").text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(name + " ")), 0.0)


class OpenaiHandler(BaseHTTPRequestHandler):
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
