"""The page for everyone: axe-core finds nothing serious in any tab, in light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.accessibility import findings
from helpers.clips import write_video

from seg_zero.data.synthetic.clips import make_clip

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_stands_in_anyones_way(open_page: Callable[..., Page], width: int, scheme: str) -> None:
    page = open_page(width, color_scheme=scheme)
    assert findings(page) == []
    page.click("#examples button >> nth=2")
    page.wait_for_selector("#picture img")
    page.click("#ask")
    page.wait_for_selector("#downloads a")
    page.click("#correct button")
    page.locator("#again").wait_for()
    page.click("#reasoning summary")
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("tab", name="Conversation").click()
    page.click("#talk-examples button >> nth=2")
    page.wait_for_selector("#talk-picture img")
    page.click("#talk-ask")
    page.wait_for_selector("#talk-downloads a")
    shown = page.locator("#talk-shown img")
    shown.click(position={"x": 60, "y": 60})
    page.locator("#refers .notice, #talk-message .notice").first.wait_for()
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("tab", name="Video").click()
    page.get_by_label("one frame every so many seconds").check()
    page.locator("#seconds input").wait_for()
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("tab", name="Labels").click()
    page.click("#label-examples button >> nth=2")
    page.wait_for_selector("#label-picture img")
    page.click("#label-settings button")
    page.click("#go")
    page.wait_for_selector("#label-downloads a")
    page.locator("#label-shown img").click(position={"x": 60, "y": 60})
    page.locator("#label-hint .notice").wait_for()
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_no_tab_hides_in_a_menu_on_a_small_phone(open_page: Callable[..., Page]) -> None:
    page = open_page(320)
    assert page.get_by_role("tab").all_inner_texts() == ["Picture", "Conversation", "Video", "Labels"]


def test_the_check_sees_what_is_wrong(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.evaluate(
        "document.querySelector('#header').innerHTML += '<p style=\"color: #bbb; background: #fff\">pale</p><input>'"
    )
    assert {line.split(":")[0] for line in findings(page)} == {"color-contrast", "label"}


def test_a_clip_is_followed_and_its_files_are_handed_out(open_page: Callable[..., Page], tmp_path: Path) -> None:
    shapes = make_clip(21, shapes=3, max_speed=0.01)
    video = write_video(tmp_path / "my shapes.mp4", (shapes.frame(index).image for index in range(6)))
    item = shapes.objects[0]
    page, other = open_page(), open_page()
    for one in (page, other):
        one.get_by_role("tab", name="Video").click()
    page.click("#follow")
    page.locator("#clip-message").get_by_text("There is no clip yet; upload one.").wait_for()
    page.set_input_files("#clip input[type=file]", video)
    page.locator("#clip-message").get_by_text("6 frames of 112 × 112, 10 per second").wait_for()  # noqa: RUF001
    assert not page.get_by_label("Trim video").is_visible(), "it loads a script from elsewhere"
    page.get_by_label("Question about the clip").fill(f"the {item.colour} {item.shape}")
    page.get_by_label("frames by number").check()
    page.get_by_label("Frame numbers, from 0").fill("0, 9")
    page.click("#follow")
    page.locator("#clip-message").get_by_text("Key frame 9 is outside the clip").wait_for()
    page.get_by_label("Frame numbers, from 0").fill("0, 3")
    page.click("#follow")
    page.locator("#clip-report").get_by_text("followed.").wait_for()
    assert "Frame 3 (0.30 s)" in page.inner_text("#clip-report")
    page.wait_for_function("() => document.querySelector('#overlay video')?.readyState > 1")
    names = page.inner_text("#clip-files")
    assert "overlay.mp4" in names.replace("\n", "") and "masks.json" in names.replace("\n", "")
    assert findings(page) == []
    assert "followed" not in other.inner_text("body") and not other.locator("#overlay video").count()
