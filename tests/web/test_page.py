"""The page in a browser: asking, correcting by hand, files, history, and two users at once."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from helpers.pictures import encoded, png_header
from PIL import Image

from seg_zero.assets import EXAMPLE_IMAGE
from seg_zero.data.synthetic.scenes import make_sample
from seg_zero.objects import PromptObject
from seg_zero.pipeline import ReasoningSegmenter

if TYPE_CHECKING:
    from playwright.sync_api import Page


def upload(page: Page, name: str, data: bytes) -> None:
    page.set_input_files("#picture input[type=file]", {"name": name, "mimeType": "image/png", "buffer": data})


def ask(page: Page, question: str) -> None:
    page.fill("#question textarea", question)
    page.click("#ask")


def answered(page: Page, question: str) -> str:
    """The headline of an answer, once it is there."""
    page.wait_for_function(
        "q => document.querySelector('#headline .asked')?.innerText.includes(q)"
        " && document.querySelector('#headline .times') && document.querySelector('#downloads a')",
        arg=question,
    )
    return page.inner_text("#headline")


def said(page: Page, place: str, words: str) -> None:
    page.locator(place).get_by_text(words).wait_for()


def drawn(page: Page, than: str | None = None) -> str:
    """The address of the shown picture, which names its content, once it differs from ``than``."""
    page.wait_for_function(
        "than => { const i = document.querySelector('#shown img'); return i && i.complete && i.src !== than; }",
        arg=than,
    )
    return page.locator("#shown img").get_attribute("src") or ""


def fetched(page: Page, ending: str) -> bytes:
    with page.expect_download() as waiting:
        # At once: of a mouse's press and release a redrawn link may get only one.
        page.locator(f"#downloads a[download$='{ending}']").evaluate("link => link.click()")
    return Path(waiting.value.path()).read_bytes()


def test_question_correction_and_files_from_start_to_end(
    open_page: Callable[..., Page], pipeline: ReasoningSegmenter
) -> None:
    page, data = open_page(), EXAMPLE_IMAGE.read_bytes()
    expected = pipeline(data, "the green circle")
    upload(page, "scene.png", data)
    said(page, "#message", "Picture scene.png, 448 × 448 pixels.")  # noqa: RUF001
    page.evaluate(
        "window.lengths = new Set(); new MutationObserver(() => window.lengths.add("
        "document.querySelector('#reasoning .thinking, #reasoning pre')?.innerText))"
        ".observe(document.querySelector('#reasoning'), {childList: true, subtree: true, characterData: true})"
    )
    ask(page, "the green circle")
    headline = answered(page, "the green circle")
    assert "1 object found." in headline and "embedding 0.00" not in headline
    assert len(page.evaluate("[...window.lengths]")) > 2, "the text is seen while it is written"
    assert expected.thinking in page.inner_text("#reasoning")
    # Files.
    assert json.loads(fetched(page, "_rle.json")) == json.loads(replace(expected, name="scene.png").to_json())
    assert (np.asarray(Image.open(io.BytesIO(fetched(page, "_mask.png")))) == expected.mask * 255).all()
    # A look without any model.
    full = drawn(page)
    page.click("#objects input")
    hidden = drawn(page, than=full)
    page.click("#prompts input")
    page.click("#objects input")
    masks_only = drawn(page, than=hidden)
    page.fill("#dimmed input[type=number]", "1")
    page.press("#dimmed input[type=number]", "Tab")
    assert len({full, hidden, masks_only, drawn(page, than=masks_only)}) == 4
    # Numbers and clicks, by SAM2 alone.
    page.click("#correct button")
    page.fill("#box-x1 input", "160")
    page.fill("#box-y1 input", "")
    page.click("#again")
    said(page, "#hint", "The box lacks a number")
    box = (165.0, 110.0, 330.0, 270.0)
    for name, value in zip(("x1", "y1", "x2", "y2"), box, strict=True):
        page.fill(f"#box-{name} input", str(value))
    page.fill("#points textarea, #points input", "300, 150")
    page.click("#again")
    said(page, "#headline", "1 object, corrected by hand.")
    assert "embedding 0.00 s" in page.inner_text("#headline") and "policy" not in page.inner_text("#headline .times")
    by_hand, _ = pipeline.segment(data, [PromptObject(box, ((300.0, 150.0),))])
    mask = np.asarray(Image.open(io.BytesIO(fetched(page, "_mask.png")))) > 0
    assert (mask == by_hand.union).all() and (mask != expected.mask).any()
    page.get_by_label("new object").check()
    said(page, "#hint", "Click on the picture")
    page.get_by_label("adds a point to it").check()
    shown = page.locator("#shown img")
    side = shown.bounding_box()["width"]  # type: ignore[index]
    shown.click(position={"x": side * 150 / 448, "y": side * 50 / 448})
    said(page, "#headline", "2 objects, corrected by hand.")
    points = json.loads(fetched(page, "_rle.json"))["objects"][1]["points"]
    assert np.abs(np.subtract(points, [[150, 50]])).max() < 2
    table = page.locator("#reasoning .objects tbody tr").all_inner_texts()
    assert table[0].split("\t")[1:] == ["165, 110, 330, 270", "300, 150"] and len(table) == 2
    x, y = (float(value) for value in table[1].split("\t")[2].split(", "))
    assert np.abs(np.subtract((x, y), points[0])).max() <= 0.05, "what is shown follows the click"
    page.click("#remove")
    said(page, "#headline", "1 object, corrected by hand.")


def test_the_policy_corrects_its_answer_and_both_turns_stay(
    open_page: Callable[..., Page], pipeline: ReasoningSegmenter
) -> None:
    page, data = open_page(), EXAMPLE_IMAGE.read_bytes()
    first = pipeline(data, "the green circle")
    expected = pipeline.correct(first)
    upload(page, "scene.png", data)
    ask(page, "the green circle")
    answered(page, "the green circle")
    page.click("#look-again")
    said(page, "#headline", "corrected once by the policy.")
    record = json.loads(fetched(page, "_rle.json"))
    assert record["corrections"] == 1 and record["text"] == expected.turns[-1].text != first.text
    assert (np.asarray(Image.open(io.BytesIO(fetched(page, "_mask.png")))) == expected.mask * 255).all()
    captions = page.locator("#history .caption-label").all_inner_texts()
    assert captions == ["the green circle · corrected", "the green circle"]


def test_a_correction_that_cannot_be_read_is_said_and_the_answer_stays(
    open_page: Callable[..., Page], address_of_short_answers: str
) -> None:
    sample = make_sample(41, 227)  # the embedded policy answers it in 24 tokens and corrects that in 51
    question = sample.question.text
    page = open_page(at=address_of_short_answers)
    upload(page, "scene.png", encoded(sample.scene.image, "PNG"))
    ask(page, question)
    answered(page, question)
    before = json.loads(fetched(page, "_rle.json"))
    page.click("#look-again")
    said(page, "#message", "The policy's correction could not be read, and the answer stays")
    assert "cut at 40 tokens" in page.inner_text("#message")
    assert "1 object found." in page.inner_text("#headline")
    assert json.loads(fetched(page, "_rle.json")) == before
    assert page.locator("#history .caption-label").all_inner_texts() == [question]


def test_a_follow_up_embeds_nothing_and_history_brings_the_first_back(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.click("#examples button >> nth=2")
    page.wait_for_selector("#picture img")
    first_question = page.input_value("#question textarea")
    page.click("#ask")
    answered(page, first_question)
    first = drawn(page)
    ask(page, "the yellow square")
    assert "embedding 0.00 s" in answered(page, "the yellow square")
    page.click("#examples button >> nth=0")
    page.wait_for_function("q => document.querySelector('#question textarea').value !== q", arg="the yellow square")
    page.click("#ask")
    answered(page, page.input_value("#question textarea"))
    assert page.locator("#history button.thumbnail-item").count() == 3
    page.click("#history button.thumbnail-item >> nth=2")
    answered(page, first_question)
    page.wait_for_function("src => document.querySelector('#shown img').src === src", arg=first)
    ask(page, "all blue crosses")
    assert "embedding 0.00 s" in answered(page, "all blue crosses"), "its picture came back too"


def test_what_cannot_be_used_is_said_in_the_page(open_page: Callable[..., Page], tmp_path: Path) -> None:
    page, heic = open_page(), tmp_path / "photo.heic"
    Image.new("RGB", (96, 64), "navy").save(heic)
    ask(page, "the cup")
    said(page, "#message", "There is no picture yet; upload one or choose an example.")
    upload(page, "cup.png", b"this is no picture")
    said(page, "#message", "The image cannot be read")
    upload(page, "empty.png", b"")
    said(page, "#message", "The image holds 0 bytes")
    upload(page, "cut.png", EXAMPLE_IMAGE.read_bytes()[:3000])
    said(page, "#message", "The image cannot be decoded")
    upload(page, "bomb.png", png_header(12_000, 10_001))
    said(page, "#message", "the limit is 120,000,000")
    upload(page, "huge.png", encoded(Image.new("1", (2000, 1000))))
    said(page, "#message", "Picture huge.png, 2000 × 1000 pixels; the models see it at 1414 × 707.")  # noqa: RUF001
    upload(page, "long.png", b"0" * (2 << 20))
    said(page, "#message", "The picture has 2,097,152 bytes; the limit is 1,048,576.")
    upload(page, "scan.tiff", encoded(Image.new("RGB", (90, 60)), "TIFF"))
    said(page, "#message", "Picture scan.tiff, 90 × 60 pixels.")  # noqa: RUF001
    page.set_input_files("#picture input[type=file]", heic)
    said(page, "#message", "Picture photo.heic, 96 × 64 pixels.")  # noqa: RUF001
    page.wait_for_function("() => document.querySelector('#picture img')?.naturalWidth === 96")
    for question, words in (
        ("  ", "is empty; describe what to segment"),
        ("x" * 2001, "The question has 2001 characters; the limit is 2000."),
        ("a <|image_pad|>", "The question holds the control token"),
        ("dog cat " * 240, "shorten the question"),
    ):
        ask(page, question)
        if question.startswith("dog"):
            answered(page, "dog cat")  # long, and within the embedded policy's context
        else:
            said(page, "#message", words)
    assert "Traceback" not in page.inner_text("body")


def test_two_users_at_once_are_kept_apart(open_page: Callable[..., Page], pipeline: ReasoningSegmenter) -> None:
    one, two = open_page(), open_page()
    pictures = [EXAMPLE_IMAGE.read_bytes(), encoded(Image.open(EXAMPLE_IMAGE).rotate(90))]
    questions = ["the red square", "the green circle"]
    for page, data, name in zip((one, two), pictures, ("one.png", "two.png"), strict=True):
        upload(page, name, data)
        said(page, "#message", name)
    for page, question in zip((one, two), questions, strict=True):
        ask(page, question)
    for page, data, question, name in zip((one, two), pictures, questions, ("one", "two"), strict=True):
        answered(page, question)
        record = json.loads(fetched(page, "_rle.json"))
        expected = pipeline(data, question)
        assert record["image"] == f"{name}.png" and record["text"] == expected.text
        assert (np.asarray(Image.open(io.BytesIO(fetched(page, "_mask.png")))) == expected.mask * 255).all()
        assert page.locator("#history button.thumbnail-item").count() == 1
