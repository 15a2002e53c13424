"""The tab for labels in a browser: an example, other labels on it, heat maps, files, and what is wrong in words."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.accessibility import findings
from PIL import Image

from seg_zero.assets import EXAMPLE_IMAGE
from seg_zero.encoders.radio import TINY
from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
from seg_zero.remote_sensing.segmenter import RemoteSensingSegmenter
from seg_zero.serving.uploads import Limits
from seg_zero.web.pictures import example_labels, example_tiles

if TYPE_CHECKING:
    from playwright.sync_api import Page


def opened(page: Page) -> Page:
    page.get_by_role("tab", name="Labels").click()  # at 390 pixels too, where gradio hides tabs that do not fit
    page.wait_for_selector("#label-examples img")
    return page


def add(page: Page, text: str) -> None:
    page.fill("#chips input", text)
    page.press("#chips input", "Enter")


def said(page: Page, place: str, words: str) -> None:
    page.locator(place).get_by_text(words).first.wait_for()


def fetched(page: Page, ending: str) -> bytes:
    with page.expect_download() as waiting:
        page.locator(f"#label-downloads a[download$='{ending}']").evaluate("link => link.click()")
    return Path(waiting.value.path()).read_bytes()


def drawn(page: Page, than: str | None = None) -> str:
    page.wait_for_function(
        "than => { const i = document.querySelector('#label-shown img'); return i && i.complete && i.src !== than; }",
        arg=than,
    )
    return page.locator("#label-shown img").get_attribute("src") or ""


def test_labels_heat_maps_and_files_from_start_to_end(open_page: Callable[..., Page]) -> None:
    page, other = opened(open_page()), opened(open_page())
    page.click("#go")
    said(page, "#label-message", "There is no picture yet")
    data = EXAMPLE_IMAGE.read_bytes()
    page.set_input_files(
        "#label-picture input[type=file]", {"name": "scene.png", "mimeType": "image/png", "buffer": data}
    )
    said(page, "#label-message", "Picture scene.png")
    page.click("#go")
    said(page, "#label-message", "There is no label")
    add(page, "background; green circle; red square, red box")
    page.wait_for_function("document.querySelectorAll('#chips .token').length === 3")
    page.click("#go")
    said(page, "#label-headline", "found in scene.png.")
    said(page, "#label-headline", "knows only synthetic shapes")
    found = OpenVocabularySegmenter.from_pretrained(TINY, device="cpu").segment(
        data, ["background", "green circle", "red square, red box"]
    )
    values = np.asarray(Image.open(io.BytesIO(fetched(page, "_labels.png"))))
    assert float((values == found.label_map).mean()) > 0.999
    record = json.loads(fetched(page, "_labels.json"))
    assert [one["texts"] for one in record["labels"]][2] == ["red square", "red box"] and record["backbone"] == "tiny"
    # A look without any model.
    whole = drawn(page)
    page.click("#heats button.thumbnail-item >> nth=2")
    heat = drawn(page, than=whole)
    shown = page.locator("#label-shown img")
    shown.click(position={"x": 60, "y": 60})
    said(page, "#label-hint", "At ")
    page.click("#heats button.thumbnail-item >> nth=0")
    assert drawn(page, than=heat)
    # Other labels on the same picture, by other settings.
    page.locator("#chips .token .token-remove").last.click()
    page.wait_for_function("document.querySelectorAll('#chips .token').length === 2")
    page.click("#label-settings button")
    page.get_by_label("Redraw edges by SAM2").check()
    page.get_by_label("Sliding windows").uncheck()
    page.click("#go")
    said(page, "#label-headline", "of 2 found in scene.png.")
    changed = json.loads(fetched(page, "_labels.json"))
    assert changed["refined"] and changed["settings"]["crop"] == 0 and len(changed["labels"]) == 2
    assert "found" not in other.inner_text("#label-headline") and not other.locator("#chips .token").count()


def test_an_example_brings_its_labels(open_page: Callable[..., Page]) -> None:
    page = opened(open_page(390))
    page.click("#label-examples button >> nth=2")
    page.wait_for_selector("#label-picture img")
    page.wait_for_function("n => document.querySelectorAll('#chips .token').length === n", arg=len(example_labels()[2]))
    page.click("#go")
    said(page, "#label-headline", "found in scene_3.png.")
    shown = page.locator("#legend").inner_text()
    assert all(label in shown for label in example_labels()[2])


@pytest.mark.parametrize("width", [1280, 390])
def test_an_aerial_tile_is_labelled_by_the_network_that_is_chosen(
    open_page: Callable[..., Page], network: str, width: int
) -> None:
    page = opened(open_page(width))
    page.click("#label-settings button")
    page.locator("#sliding").wait_for()
    assert not page.locator("#unsure").count()
    page.locator("#label-model").get_by_label("Remote sensing").check()
    page.locator("#unsure").wait_for()
    page.locator("#sliding").wait_for(state="detached")
    said(page, "#chips", "the first counts")
    page.click("#label-examples button >> nth=6")
    page.wait_for_selector("#label-picture img")
    page.wait_for_function("document.querySelectorAll('#chips .token').length === 8")
    page.get_by_label("Also in four windows").check()
    page.click("#go")
    said(page, "#label-headline", "found in tile_1.png.")
    record = json.loads(fetched(page, "_labels.json"))
    assert (record["model"], record["backbone"]) == ("Remote sensing", Path(network).name)
    assert record["settings"] == {"sliding": True, "threshold": 0}
    (tile, words), *_ = example_tiles(Limits())
    segmenter = RemoteSensingSegmenter.from_pretrained(network, "cpu", sliding=True)
    values = np.asarray(Image.open(io.BytesIO(fetched(page, "_labels.png"))))
    assert float((values == segmenter.segment(tile.data, words).label_map).mean()) > 0.999
    assert findings(page) == [] and page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#label-model").get_by_label("RADIO").check()
    page.locator("#sliding").wait_for()
    before = drawn(page)
    page.click("#go")
    drawn(page, than=before)
    assert json.loads(fetched(page, "_labels.json"))["model"] == "RADIO"
