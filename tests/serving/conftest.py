"""The embedded models behind a client, a server whose policy waits, and an OpenAI server whose answers are set."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from helpers.pictures import encoded
from helpers.serving import NEW_TOKENS, GatedPolicy, OpenaiHandler, Serving

from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.pipeline import ReasoningSegmenter, SegmentationResult
from seg_zero.policy import TransformersPolicy
from seg_zero.segmenter import Segmenter, load_segmenter


@pytest.fixture(scope="package")
def segmenter() -> Segmenter:
    return load_segmenter()


@pytest.fixture(scope="package")
def expected(segmenter: Segmenter) -> list[tuple[bytes, SegmentationResult]]:
    """Pictures with the pipeline's answers to a question about each."""
    pipeline = ReasoningSegmenter(TransformersPolicy.from_pretrained(max_new_tokens=NEW_TOKENS), segmenter)
    samples = list(make_samples(seed=11, count=8, side=160))
    return [(encoded(s.scene.image), pipeline(s.scene.image, s.question.text)) for s in samples]


@pytest.fixture(scope="package")
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


@pytest.fixture
def openai() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), OpenaiHandler)
    server.asked, server.answers = [], []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
