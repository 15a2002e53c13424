"""POST /v1/label: answers, limits and refusals."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from helpers.pictures import encoded, png_header
from helpers.radio import small_folder
from helpers.remote_sensing import telling_network
from helpers.serving import PICTURE, GatedPolicy, Serving, until
from PIL import Image
from pycocotools import mask as coco

from seg_zero.cli.serve import label_service_of, parse
from seg_zero.encoders.radio import TINY, backbone_warning
from seg_zero.errors import InputError
from seg_zero.models.tiny_radio_scenes import PAIRS, held_out
from seg_zero.open_vocabulary.labels import parse_labels
from seg_zero.open_vocabulary.result import LabelledImage
from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
from seg_zero.remote_sensing.model.files import save_network
from seg_zero.remote_sensing.segmenter import RemoteSensingSegmenter
from seg_zero.segmenter import load_segmenter
from seg_zero.serving.labels import LabelService, Loaded
from seg_zero.serving.service import Refused


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
    models = {"open_vocabulary": Loaded(halves, "stand-in", "it knows nothing")}
    return LabelService(models, max_open=2, max_labels=5)


@pytest.fixture
def serving(halves: Halves, service: LabelService) -> Iterator[Serving]:
    policy = GatedPolicy()
    policy.gate.set()
    made = Serving(policy, load_segmenter("tiny", "cpu"), labels=service)
    yield made
    halves.gate.set()
    service.close()
    made.service.close(5)


def label(serving: Serving, labels: str, image: bytes = PICTURE, model: str = "", **headers: str) -> httpx.Response:
    data = {"labels": labels, **({"model": model} if model else {})}
    return serving.client.post("/v1/label", files={"image": image}, data=data, headers=headers)


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
    assert (found["model"], found["backbone"], found["warning"]) == ("open_vocabulary", "stand-in", "it knows nothing")
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
    service = LabelService({"open_vocabulary": Loaded(halves, "stand-in")})
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
    assert answer.status_code == 404
    assert "start it with --label_backbone NAME or --remote_sensing_model FOLDER" in answer.json()["error"]
    assert "label" not in made.client.get("/").json()
    made.service.close(5)


def test_the_embedded_backbone_answers_and_says_what_it_knows() -> None:
    (scene,) = held_out(1)
    policy = GatedPolicy()
    policy.gate.set()
    segmenter = OpenVocabularySegmenter.from_pretrained(TINY, device="cpu")
    service = LabelService({"open_vocabulary": Loaded(segmenter, TINY, backbone_warning(TINY))})
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


@dataclass
class Both:
    serving: Serving
    service: LabelService
    network: RemoteSensingSegmenter


@pytest.fixture
def both(halves: Halves, tmp_path: Path) -> Iterator[Both]:
    """A server with a stand-in for the backbone, and a small network for aerial tiles."""
    save_network(telling_network(), tmp_path / "network")
    network = RemoteSensingSegmenter.from_pretrained(tmp_path / "network", "cpu")
    service = LabelService({"remote_sensing": Loaded(network, "network"), "open_vocabulary": Loaded(halves, "radio")})
    policy = GatedPolicy()
    policy.gate.set()
    made = Serving(policy, load_segmenter("tiny", "cpu"), labels=service)
    yield Both(made, service, network)
    halves.gate.set()
    service.close()
    made.service.close(5)


def test_a_request_names_the_model_that_labels(both: Both, halves: Halves) -> None:
    serving, network = both.serving, both.network
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    answer = label(serving, "road, street; water; roof", encoded(picture), model="remote_sensing")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["model"], found["backbone"], found["warning"]) == ("remote_sensing", "network", None)
    assert [one["name"] for one in found["labels"]] == ["road", "water", "roof"] and not halves.sizes
    expected = network.probabilities(np.asarray(picture), ["road", "water", "roof"]).argmax(axis=0) + 1
    values = map_of(base64.b64decode(found["label_map"]))
    assert np.array_equal(values, expected) and len(np.unique(values)) > 1
    assert sum(one["area"] for one in found["labels"]) == pytest.approx(1) and found["unlabelled"] == 0
    for model in ("open_vocabulary", ""):
        assert label(serving, "road,water", model=model).json()["backbone"] == "radio", "the default"


def test_both_models_share_the_line(halves: Halves, both: Both) -> None:
    serving, service = both.serving, both.service
    halves.gate.clear()
    answers = dict[str, httpx.Response]()

    def ask(model: str) -> None:
        answers[model] = label(serving, "road,water", model=model)

    first = threading.Thread(target=ask, args=("open_vocabulary",))
    first.start()
    until(lambda: service.open == 1)
    second = threading.Thread(target=ask, args=("remote_sensing",))
    second.start()
    until(lambda: service.open == 2)
    service.max_open = 2
    assert label(serving, "road", model="remote_sensing").status_code == 429
    assert not answers
    halves.gate.set()
    for thread in (first, second):
        thread.join(20)
    assert {model: answer.status_code for model, answer in answers.items()} == dict.fromkeys(answers, 200)


@pytest.mark.parametrize(
    ("model", "status", "words"),
    [
        (
            "remote_sensing",
            404,
            "model remote_sensing is not loaded; this server has open_vocabulary (stand-in); "
            "start it with --remote_sensing_model FOLDER too",
        ),
        ("radseg", 422, "model 'radseg' is unknown; this server has open_vocabulary (stand-in)"),
    ],
)
def test_models_that_the_server_does_not_have(serving: Serving, model: str, status: int, words: str) -> None:
    answer = label(serving, "sky", model=model)
    assert answer.status_code == status and words in answer.json()["error"]


def test_the_options_load_the_models_that_they_name(tmp_path: Path) -> None:
    save_network(telling_network(), tmp_path / "network")
    backbone = small_folder(tmp_path / "radio")
    for names in ([], ["open_vocabulary"], ["remote_sensing"], ["open_vocabulary", "remote_sensing"]):
        given = ["--label_backbone", str(backbone)] if "open_vocabulary" in names else []
        given += ["--remote_sensing_model", str(tmp_path / "network")] if "remote_sensing" in names else []
        service = label_service_of(parse(["--device", "cpu", "--max_open", "3", "--max_labels", "7", *given]))
        if service is None:
            assert not names
            continue
        assert list(service.models) == names and (service.max_open, service.max_labels) == (3, 7)
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
        for loaded in service.models.values():
            assert loaded.labeller.segment(image, ["sky", "grass"]).label_map.shape == (40, 60)
            assert loaded.name in (backbone.name, "network"), "not where it lies on the server"
        service.close()


def test_a_network_alone_answers_those_who_name_no_model(halves: Halves) -> None:
    service = LabelService({"remote_sensing": Loaded(halves, "network")})
    assert service.choose("") == "remote_sensing"
    with pytest.raises(Refused, match="open_vocabulary is not loaded; this server has remote_sensing") as got:
        service.choose("open_vocabulary")
    assert got.value.status == 404
    service.close()
