"""Conversations in a browser: references by click, undo, clear, the file, refusals, and two users at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.pictures import encoded
from PIL import Image

from seg_zero.assets import EXAMPLE_IMAGE
from seg_zero.pipeline import ReasoningSegmenter

if TYPE_CHECKING:
    from playwright.sync_api import Page


def upload(page: Page, name: str, data: bytes) -> None:
    page.set_input_files("#talk-picture input[type=file]", {"name": name, "mimeType": "image/png", "buffer": data})


def said(page: Page, place: str, words: str) -> None:
    page.locator(place).get_by_text(words).wait_for()


def ask(page: Page, question: str) -> None:
    page.fill("#talk-question textarea", question)
    page.click("#talk-ask")


def has_rounds(page: Page, *captions: str) -> None:
    page.wait_for_function(
        "captions => JSON.stringify([...document.querySelectorAll('#rounds .caption-label')]"
        ".map(one => one.innerText.trim())) === JSON.stringify(captions)",
        arg=list(captions),
    )


def saved(page: Page) -> dict[str, Any]:
    with page.expect_download() as waiting:
        page.locator("#talk-downloads a").evaluate("link => link.click()")
    return json.loads(Path(waiting.value.path()).read_text())


def opened(open_page: Callable[..., Page], name: str, data: bytes) -> Page:
    page = open_page()
    page.get_by_role("tab", name="Conversation").click()
    upload(page, name, data)
    said(page, "#talk-message", name)
    return page


def test_rounds_refer_to_earlier_ones_and_are_kept_apart_from_those_of_another_user(
    open_page: Callable[..., Page], pipeline: ReasoningSegmenter, tmp_path: Path
) -> None:
    data = EXAMPLE_IMAGE.read_bytes()
    one = opened(open_page, "one.png", data)
    two = opened(open_page, "two.png", encoded(Image.open(EXAMPLE_IMAGE).rotate(90)))
    ask(one, "the green circle")
    ask(two, "the red square")
    has_rounds(one, "1 · the green circle")
    has_rounds(two, "1 · the red square")
    # A thumbnail, and no longer, and again.
    one.click("#rounds button.thumbnail-item")
    has_rounds(one, "✓ 1 · the green circle")
    one.click("#rounds button.thumbnail-item")
    has_rounds(one, "1 · the green circle")
    one.click("#rounds button.thumbnail-item")
    said(one, "#refers", "The next question refers to round 1.")
    has_rounds(one, "✓ 1 · the green circle")
    ask(one, "the shape beside it")
    has_rounds(one, "1 · the green circle", "2 · the shape beside it")
    # An object in the picture that no round found.
    shown = one.locator("#talk-shown img")
    side = shown.bounding_box()["width"]  # type: ignore[index]
    shown.click(position={"x": side * 0.3, "y": side * 0.15})
    said(one, "#refers", "The next question refers to")
    record = saved(one)
    assert [(item["question"], item["references"]) for item in record["rounds"]] == [
        ("the green circle", []),
        ("the shape beside it", [1]),
    ]
    (tmp_path / "talk.json").write_text(json.dumps(record))
    assert len(pipeline.load_dialogue(tmp_path / "talk.json", data).rounds) == 2
    # The picture stays while there are rounds.
    upload(one, "other.png", encoded(Image.new("RGB", (60, 40))))
    said(one, "#talk-message", "The dialogue is about one.png; clear it before you change the picture.")
    for question, words in (
        ("the shape left of instance 5", "refers to round 5, but there are rounds 1 to 2"),
        ("[REF:x] the shape", "cannot be read"),
        (" ", "is empty"),
        ("x" * 2001, "The question has 2001 characters; the limit is 2000."),
    ):
        ask(one, question)
        said(one, "#talk-message", words)
    one.click("#undo")
    said(one, "#talk-message", "Round 2 is taken back.")
    assert one.locator("#rounds .caption-label").count() == 1, "referred to still, if the click was on it"
    assert one.input_value("#talk-question textarea") == "[REF:1] the shape beside it"
    one.click("#clear")
    said(one, "#talk-headline", "Choose an example")
    upload(one, "other.png", encoded(Image.new("RGB", (60, 40))))
    said(one, "#talk-message", "Picture other.png")
    has_rounds(two, "1 · the red square")
    assert [item["question"] for item in saved(two)["rounds"]] == ["the red square"]
