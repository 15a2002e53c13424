"""POST /v1/label: answers, limits and refusals."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from helpers.pictures import encoded, png_header
from helpers.serving import PICTURE, GatedPolicy, Serving, until
from PIL import Image
from pycocotools import mask as coco

from seg_zero.encoders.radio import TINY, backbone_warning
from seg_zero.errors import InputError
from seg_zero.models.tiny_radio_scenes import PAIRS, held_out
from seg_zero.open_vocabulary.labels import parse_labels
from seg_zero.open_vocabulary.result import LabelledImage
from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
from seg_zero.segmenter import load_segmenter
from seg_zero.serving.labels import LabelService


class Halves:
    """The upper half is the first label, the lower one the last; a column at the left has none."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.sizes: list[tuple[int, int]] = []

    def segment(self, image: Image.Image, labels: list[str]) -> LabelledImage:
        self.gate.wait(20)
        self.sizes.append(image.size)
        if "unreadable" in labels:
            raise InputError("labels: this one cannot be had; take another")
        if "broken" in labels:
            raise RuntimeError("out of memory")
        classes = np.zeros((image.height, image.width), np.int32)
        classes[image.height // 2 :] = len(labels) - 1
        sure = np.ones(classes.shape, np.float32)
        sure[:, 0] = 0
        patches = np.full((len(labels), 2, 2), 1 / len(labels), np.float32)
        kept = np.ones(len(labels), bool)
        return LabelledImage(image, tuple(parse_labels(labels)), patches, kept, classes, sure)


@pytest.fixture
def halves() -> Halves:
    return Halves()


@pytest.fixture
def service(halves: Halves) -> LabelService:
    return LabelService(halves, "stand-in", max_open=2, max_labels=5, warning="it knows nothing")


@pytest.fixture
def serving(halves: Halves, service: LabelService) -> Iterator[Serving]:
    policy = GatedPolicy()
    policy.gate.set()
    made = Serving(policy, load_segmenter("tiny", "cpu"), labels=service)
    yield made
    halves.gate.set()
    service.close()
    made.service.close(5)


def label(serving: Serving, labels: str, image: bytes = PICTURE, **headers: str) -> httpx.Response:
    return serving.client.post("/v1/label", files={"image": image}, data={"labels": labels}, headers=headers)


def map_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_picture_is_labelled(serving: Serving) -> None:
    answer = label(serving, "sky; cat, kitten; grass")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [(one["name"], one["value"]) for one in found["labels"]] == [("sky", 1), ("cat", 2), ("grass", 3)]
    assert found["unlabelled"] == pytest.approx(1 / 60) and found["labels"][1]["mask"] is None
    assert sum(one["area"] for one in found["labels"]) + found["unlabelled"] == pytest.approx(1)
    values = map_of(base64.b64decode(found["label_map"]))
    assert values.shape == (found["height"], found["width"]) == (40, 60)
    for one in (found["labels"][0], found["labels"][2]):
        assert np.array_equal(coco.decode(one["mask"]), values == one["value"])
    assert (found["backbone"], found["warning"]) == ("stand-in", "it knows nothing")
    assert set(found["seconds"]) == {"waiting", "labelling"}
    assert serving.client.get("/").json()["label"] == "POST /v1/label"


def test_the_map_alone_as_a_picture(serving: Serving) -> None:
    answer = label(serving, "sky,grass", accept="image/png")
    assert answer.headers["content-type"] == "image/png"
    values = map_of(answer.content)
    assert set(np.unique(values)) == {0, 1, 2} and values[0, 1] == 1 and values[-1, 1] == 2


def test_a_large_picture_is_reduced_and_its_labels_are_in_its_own_pixels(serving: Serving, halves: Halves) -> None:
    found = label(serving, "sky,grass", encoded(Image.new("RGB", (800, 400), "navy"))).json()
    assert halves.sizes[0][0] * halves.sizes[0][1] <= 300 * 300
    assert (found["width"], found["height"]) == (800, 400)
    assert found["labels"][1]["mask"]["size"] == [400, 800]


@pytest.mark.parametrize(
    ("labels", "image", "status", "words"),
    [
        ("sky,,grass", PICTURE, 422, "label 2, '', is empty"),
        ("sky,sky", PICTURE, 422, "'sky' is given twice"),
        ("a,b,c,d,e,f", PICTURE, 422, "6 labels are more than 5"),
        ("x" * 30_000, PICTURE, 422, "30,000 characters; the limit is 20,000"),
        ("", PICTURE, 422, "labels: "),
        ("sky", b"", 422, "0 bytes"),
        ("sky", b"no picture", 422, "cannot be read"),
        ("sky", png_header(100_000, 100_000), 413, "pixels"),
        ("sky", bytes(250_000), 413, "more than 200,000 bytes"),
        ("unreadable", PICTURE, 422, "this one cannot be had"),
        ("broken", PICTURE, 500, "labelling failed on this request; the server's log says why"),
    ],
)
def test_refusals_are_one_line(serving: Serving, labels: str, image: bytes, status: int, words: str) -> None:
    answer = label(serving, labels, image)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"] and "\n" not in answer.json()["error"]
    assert label(serving, "sky").status_code == 200, "others are not affected"


def test_too_many_open_pictures_and_the_end_of_the_server(
    serving: Serving, service: LabelService, halves: Halves
) -> None:
    halves.gate.clear()
    got: list[int] = []
    waiting = [threading.Thread(target=lambda: got.append(label(serving, "sky").status_code)) for _ in range(2)]
    for thread in waiting:
        thread.start()
    until(lambda: service.open == 2)
    full = label(serving, "sky")
    assert full.status_code == 429 and "already labels 2 pictures" in full.json()["error"]
    assert full.headers["retry-after"] == "1"
    serving.service.closing = True
    assert label(serving, "sky").status_code == 503
    halves.gate.set()
    for thread in waiting:
        thread.join(20)
    assert got == [200, 200] and service.open == 0


def test_an_answer_that_takes_too_long_is_given_up(halves: Halves) -> None:
    policy = GatedPolicy()
    policy.gate.set()
    service = LabelService(halves, "stand-in")
    made = Serving(policy, load_segmenter("tiny", "cpu"), timeout=0.2, labels=service)
    halves.gate.clear()
    answer = label(made, "sky")
    assert answer.status_code == 504 and "no answer within 0.2 seconds" in answer.json()["error"]
    halves.gate.set()
    service.close()
    made.service.close(5)


def test_a_server_without_a_backbone_says_how_to_get_one() -> None:
    policy = GatedPolicy()
    policy.gate.set()
    made = Serving(policy, load_segmenter("tiny", "cpu"))
    answer = label(made, "sky")
    assert answer.status_code == 404 and "start it with --label_backbone NAME" in answer.json()["error"]
    assert "label" not in made.client.get("/").json()
    made.service.close(5)


def test_the_embedded_backbone_answers_and_says_what_it_knows() -> None:
    (scene,) = held_out(1)
    policy = GatedPolicy()
    policy.gate.set()
    service = LabelService(
        OpenVocabularySegmenter.from_pretrained(TINY, device="cpu"), TINY, warning=backbone_warning(TINY)
    )
    made = Serving(policy, load_segmenter("tiny", "cpu"), labels=service)
    names = [PAIRS[number - 1] for number in np.unique(scene.pairs) if number]
    answer = label(made, ",".join(["background", *names]), encoded(Image.fromarray(scene.image))).json()
    largest = max(names, key=lambda name: (scene.pairs == 1 + PAIRS.index(name)).sum())
    assert answer["warning"] == backbone_warning(TINY) is not None and answer["backbone"] == TINY
    found = next(one for one in answer["labels"] if one["name"] == largest)
    truth = scene.pairs == 1 + PAIRS.index(largest)
    mask = coco.decode(found["mask"]).astype(bool)
    mask = np.asarray(Image.fromarray(mask).resize(truth.shape[::-1], Image.Resampling.NEAREST))
    assert (mask & truth).sum() / (mask | truth).sum() > 0.5
    service.close()
    made.service.close(5)
