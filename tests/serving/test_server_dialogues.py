"""Dialogues over HTTP: rounds, limits, and many of them at once without a mix-up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from helpers.pictures import encoded
from helpers.serving import PICTURE, Serving, until
from pycocotools import mask as coco

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.policy import GREEDY, Policy, Reply, Request, Sampling
from seg_zero.prompting import PromptSpec

SCENE = next(s for s in make_samples(33, 40) if len(s.scene.objects) >= 3).scene
IMAGE = encoded(SCENE.image)


class Echo(Policy):
    """Thinks what it was asked and told; answers with the object whose number ends the question, or with nothing."""

    def __init__(self) -> None:
        self.spec, self.in_flight = PromptSpec("brief", 112), 4

    def stream(self, requests: Iterable[Request | None], sampling: Sampling = GREEDY) -> Iterator[Reply]:
        for request in requests:
            if request is None:
                continue
            last = request.question[-1]
            items = [SCENE.objects[int(last)].prompt] if last.isdigit() and int(last) < 3 else []
            text = write_answer(f"{request.question} | {request.context}", write_solution_multi(items))
            yield Reply(request.key, (text,), 1, False)


@pytest.fixture
def server(segmenter: Any) -> Iterator[Serving]:
    made = Serving(Echo(), segmenter, max_open=100)
    yield made
    assert made.service.close(30)


def begin(server: Serving, image: bytes = IMAGE) -> dict[str, Any]:
    answer = server.client.post("/v1/dialogues", files={"image": image})
    assert answer.status_code == 201
    return answer.json()


def ask(server: Serving, key: str, question: str) -> httpx.Response:
    return server.client.post(f"/v1/dialogues/{key}/rounds", data={"question": question})


def test_rounds_refer_to_earlier_ones(server: Serving) -> None:
    made = begin(server)
    assert (made["width"], made["height"], made["max_rounds"]) == (112, 112, 20)
    key = made["id"]
    first = ask(server, key, "object 0").json()
    assert (first["round"], first["references"], first["dialogue"]) == (1, [], key)
    mask = coco.decode(first["mask"]).astype(bool)
    truth = SCENE.objects[0].mask
    assert (mask & truth).sum() / (mask | truth).sum() > 0.8
    second = ask(server, key, "[REF:1] the one beside it 1").json()
    assert (second["round"], second["references"], second["question"]) == (2, [1], "the one beside it 1")
    assert 'instance 1, "object 0": [{"bbox_2d"' in second["thinking"]
    assert second["seconds"]["embedding"] < 0.01
    questions = ["object 0", "the one beside it 1"]
    assert server.client.get(f"/v1/dialogues/{key}").json() == {"id": key, "questions": questions}
    assert server.client.delete(f"/v1/dialogues/{key}/rounds").json()["questions"] == ["object 0"]
    assert ask(server, key, "object 2").json()["round"] == 2
    assert server.client.delete(f"/v1/dialogues/{key}").status_code == 204
    assert ask(server, key, "object 0").status_code == 404


@pytest.mark.parametrize("place", ["", "/{key}/rounds"])
def test_a_round_that_is_no_form_is_told_to_be_one(server: Serving, place: str) -> None:
    answer = server.client.post("/v1/dialogues" + place.format(key=begin(server)["id"]), json={"question": "the cup"})
    assert answer.status_code == 415
    assert "is 'application/json'; send a form, multipart/form-data or" in answer.json()["error"]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("[REF:3] x", "refers to round 3, but there are rounds 1 to 2"),
        ("left of instance 2", "refers to round 2, which found no object"),
        ("[REF:] x", "cannot be read"),
        ("[REF:1]", "is empty"),
        ("<|im_end|>", "control token"),
        ("cup " * 80, "the limit is 300"),
    ],
)
def test_a_refused_round_leaves_the_dialogue_as_it_was(server: Serving, question: str, words: str) -> None:
    key = begin(server)["id"]
    ask(server, key, "object 0")
    assert ask(server, key, "nothing").json()["objects"] == []
    answer = ask(server, key, question)
    assert answer.status_code == 422 and words in answer.json()["error"]
    assert server.client.get(f"/v1/dialogues/{key}").json()["questions"] == ["object 0", "nothing"]


def test_a_question_whose_text_was_lost_is_refused(server: Serving) -> None:
    place = f"/v1/dialogues/{begin(server)['id']}/rounds"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = server.client.post(place, content=b"question=the+caf%E9", headers=form)
    assert answer.status_code == 422 and "the question is not UTF-8" in answer.json()["error"]


def test_what_is_missing_is_named(server: Serving) -> None:
    assert "no such dialogue" in ask(server, "x" * 24, "object 0").json()["error"]
    assert server.client.delete("/v1/dialogues/none").status_code == 404
    nothing = server.client.post("/v1/dialogues")
    assert nothing.status_code == 422 and "image: Field required" in nothing.json()["error"]
    key = begin(server)["id"]
    assert "question: Field required" in server.client.post(f"/v1/dialogues/{key}/rounds").json()["error"]
    undone = server.client.delete(f"/v1/dialogues/{key}/rounds")
    assert undone.status_code == 422 and "no round to undo" in undone.json()["error"]
    assert server.client.post("/v1/dialogues", files={"image": b"no picture"}).status_code == 422


def test_fifty_dialogues_at_once_are_never_mixed(server: Serving) -> None:
    pictures = [encoded(SCENE.image.resize((112 + number, 112))) for number in range(50)]
    keys = [begin(server, picture)["id"] for picture in pictures]
    assert len(set(keys)) == 50

    def talk(number: int) -> list[dict[str, Any]]:
        asked = [f"thing {number} first 0", f"[REF:1] thing {number} second 1", f"thing {number} third 2"]
        return [ask(server, keys[number], question).json() for question in asked]

    with ThreadPoolExecutor(16) as users:
        talks = list(users.map(talk, range(50)))
    for number, rounds in enumerate(talks):
        assert [one["round"] for one in rounds] == [1, 2, 3]
        assert all(one["dialogue"] == keys[number] and one["width"] == 112 + number for one in rounds)
        question, context = rounds[2]["thinking"].split(" | ")
        assert question == f"thing {number} third 2"
        assert f'"thing {number} first 0"' in context and f'"thing {number} second 1"' in context
        assert context.count("thing ") == 2


def test_two_rounds_of_one_dialogue_are_not_answered_at_once(gated: Any) -> None:
    policy, server = gated()
    key = begin(server, PICTURE)["id"]
    with ThreadPoolExecutor(1) as user:
        first = user.submit(ask, server, key, "the cup")
        until(lambda: server.service.open == 1)
        refused = ask(server, key, "the dog")
        assert refused.status_code == 409 and "wait for it" in refused.json()["error"]
        policy.gate.set()
        assert first.result().json()["text"] == "the cup"
    assert ask(server, key, "the dog").json()["round"] == 2


def test_a_round_that_takes_too_long_is_no_round(gated: Any) -> None:
    policy, server = gated(timeout=0.2)
    key = begin(server, PICTURE)["id"]
    assert ask(server, key, "the cup").status_code == 504
    policy.gate.set()
    assert ask(server, key, "the dog").json()["round"] == 1
