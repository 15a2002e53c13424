"""The server gives the answers of the pipeline."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from helpers.pictures import encoded
from helpers.serving import LIMITS, NEW_TOKENS, PICTURE, GatedPolicy, Serving, metric
from PIL import ExifTags, Image

from seg_zero.images import load_image
from seg_zero.masks import decode_mask, resize_mask
from seg_zero.objects import PromptObject
from seg_zero.pipeline import SegmentationResult
from seg_zero.policy import Reply, Request, TransformersPolicy
from seg_zero.segmenter import Segmenter
from seg_zero.serving.app import _accepts_png


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


def test_a_warning_about_the_policy_is_in_every_answer(segmenter: Segmenter) -> None:
    policy = GatedPolicy()
    policy.gate.set()
    made = Serving(policy, segmenter, warning="other words")
    answer = made.ask(PICTURE, "the cup")
    assert answer.json()["warning"] == answer.headers["X-Seg-Zero-Warning"] == "other words"
    assert made.client.get("/health").json()["warning"] == "other words"
    assert made.service.close(30)


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


def test_every_kind_of_picture_is_taken(serving: Serving) -> None:
    for kind in ("PNG", "JPEG", "WEBP", "HEIF", "BMP", "GIF", "TIFF"):
        found = serving.ask(encoded(Image.new("RGB", (50, 30), "red"), kind), "the cup").json()
        assert (found["width"], found["height"]) == (50, 30)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "HEIF"])
def test_a_large_picture_is_reduced_and_answered_in_its_own_pixels(
    gated: Any, kind: str, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's limit is 90,000 pixels; a photo of a phone that was held upright has four times as many."""
    seen = list[tuple[int, int]]()
    written = '<think>it</think><answer>[{"bbox_2d": [28, 28, 84, 84], "point_2d": [56, 56]}]</answer>'
    policy, server = gated(lambda question: written)
    policy.gate.set()
    embed = segmenter.embed
    monkeypatch.setattr(segmenter, "embed", lambda images: seen.append(images[0].size) or embed(images))
    picture = Image.new("RGB", (800, 480), "navy")
    picture.paste("orange", (200, 120, 600, 360))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = encoded(picture, kind, exif=exif.tobytes())
    answer = server.ask(data, "the square", png="true")
    found = answer.json()
    assert answer.status_code == 200 and seen == [(232, 387)]
    assert (found["width"], found["height"]) == (480, 800)
    (item,) = found["objects"]  # in the policy's square of 112, a box from a quarter to three quarters
    assert np.allclose(item["box"], (120, 200, 360, 600), atol=1) and np.allclose(item["points"], (240, 400), atol=1)
    mask = decode_mask(item["mask"])
    assert mask.shape == (800, 480) and (mask == decode_mask(found["mask"])).all()
    small = load_image(data, LIMITS.pixels)
    prompt = PromptObject(tuple(item["box"]), tuple(map(tuple, item["points"]))).scaled(232 / 480, 387 / 800)
    assert (mask == resize_mask(segmenter.segment(small, [prompt]).union, (480, 800))).mean() > 0.999
    assert mask[200:600, 120:360].mean() > 0.9
    assert Image.open(io.BytesIO(base64.b64decode(found["png"]))).size == (480, 800)


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


@pytest.mark.parametrize(
    ("accept", "png"),
    [
        ("image/png", True),
        ("text/html, IMAGE/PNG;q=0.1", True),
        ("image/png; q=1.0", True),
        ("image/png;q=0", False),
        ("application/json, image/png; q=0.000", False),
        ("image/*", False),
        ("", False),
    ],
)
def test_a_picture_is_sent_to_who_accepts_one(accept: str, png: bool) -> None:
    assert _accepts_png(accept) is png
