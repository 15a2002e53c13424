"""Many users at once: limits, time-outs, failures of one request, closing, health."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from helpers.serving import NAMES, PICTURE, Serving, metric, until


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
    assert metric(server, 'seg_zero_refused_requests_total{status="429"}') == 1
    assert server.client.post("/v1/segment").status_code == 415
    assert metric(server, 'seg_zero_refused_requests_total{status="415"}') == 1
    assert metric(server, "seg_zero_request_seconds_count") == 4, "the refused ones would make it look fast"


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
    assert serving.client.get("/health").json() == {"ready": True, "problem": None, "warning": None, **NAMES}
