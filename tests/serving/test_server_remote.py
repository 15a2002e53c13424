"""A policy on another server: its errors are retried, then reported."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.serving import PICTURE, Serving, completion

from seg_zero.policy.remote import RemotePolicy
from seg_zero.prompting import PromptSpec
from seg_zero.segmenter import Segmenter

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
