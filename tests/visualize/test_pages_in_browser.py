"""The demo's and the evaluation's pages in a browser, at a desk and on a phone: they fit, are small and legible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers.accessibility import findings
from helpers.chained_answers import chained
from helpers.evaluated import NOTHING, SPEC, WARNING, photos, predicted, scenes, summary_of, true_texts

from seg_zero.answer import write_answer
from seg_zero.cli.demo.page import Page as Demo
from seg_zero.cli.demo.page import Spoken
from seg_zero.cli.demo.page import write_page as write_demo
from seg_zero.data.rows import Row
from seg_zero.evaluation.page import write_page as write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESK, PHONE = (1280, 900), (390, 844)
ELSEWHERE = write_answer("looks red", '[{"bbox_2d":[0,0,12,12],"point_2d":[4,4]}]')
LONG = "a_very_long_name_without_any_space_" * 4


def report(rows: list[Row], path: Path) -> None:
    texts = true_texts(rows)
    texts[0] = ELSEWHERE
    texts[-1] = "I cannot say " + LONG
    found = predicted(rows, texts)
    summary = summary_of(found, model_commit=LONG, data=f"/data/{LONG}.parquet")
    write_report(path, summary, found, rows, "answered all rows in 5.0 s, 60.0 rows/s")


def demo(path: Path) -> None:
    rows = scenes(12)
    texts = [NOTHING, *true_texts(rows)[1:-1], "I cannot say " + LONG]
    before, after = predicted(rows, [ELSEWHERE] * len(rows)), predicted(rows, texts)
    steps = list(range(1, 21))
    curves = {
        key: (steps, [0.2 + 0.03 * step for step in steps])
        for key in ("reward/score/mean", "reward/box_iou/mean", "actor/kl_loss", "reward/point/mean")
    }
    write_demo(
        path,
        Demo(
            summary_of(before), summary_of(after), before, after, rows, curves, SPEC, {"train": 90.0}, "2 cores",
            "outputs/demo/merged", [Spoken(LONG, LONG, rows[0].image().resize((448, 448))) for _ in range(3)],
            chained(5),
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {name: folder / f"{name}.html" for name in ("demo", "scenes", "photos", "one", "words")}
    demo(found["demo"])
    report(scenes(18), found["scenes"])
    report(photos(8), found["photos"])
    report(scenes(1), found["one"])
    long = [replace(row, problem=f"{LONG} {row.problem}", kind=LONG[:60] + row.kind) for row in scenes(6)]
    report(long, found["words"])
    return found


@pytest.fixture
def opened(browser: Browser, pages: dict[str, Path]) -> Iterator[Callable[[str, tuple[int, int]], Page]]:
    contexts = []

    def make(name: str, size: tuple[int, int]) -> Page:
        contexts.append(browser.new_context(viewport={"width": size[0], "height": size[1]}))
        page = contexts[-1].new_page()
        page.goto(pages[name].as_uri())
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        page.wait_for_function("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        return page

    yield make
    for context in contexts:
        context.close()


each_page = pytest.mark.parametrize("name", ["demo", "scenes", "photos", "one", "words"])
each_size = pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])


@each_page
@each_size
def test_nothing_sticks_out_overlaps_or_is_too_small_to_read(
    opened: Callable[[str, tuple[int, int]], Page], name: str, size: tuple[int, int]
) -> None:
    page = opened(name, size)
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    out: list[Any] = page.evaluate(
        """() => [...document.querySelectorAll('main *')]
            .filter((part) => !part.closest('.wide') || part.matches('.wide'))
            .filter((part) => { const box = part.getBoundingClientRect();
                                return box.right > innerWidth + 0.5 || box.left < -0.5; })
            .map((part) => part.outerHTML.slice(0, 100))"""
    )
    assert out == []
    assert (
        page.evaluate(
            """() => Math.min(...[...document.querySelectorAll('main *')]
            .filter((part) => [...part.childNodes].some((node) => node.nodeType == 3 && node.data.trim()))
            .map((part) => parseFloat(getComputedStyle(part).fontSize)))"""
        )
        >= 13
    )
    overlaps: list[Any] = page.evaluate(
        """() => { const parts = [...document.querySelectorAll('h1, h2, h3, p, pre, td, th, figure, summary, .tile')]
              .filter((part) => part.getClientRects().length), found = [];
            for (const one of parts) for (const other of parts) {
              if (one === other || one.contains(other) || other.contains(one)) continue;
              const a = one.getBoundingClientRect(), b = other.getBoundingClientRect();
              if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
                  && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1)
                found.push([one.textContent.slice(0, 40), other.textContent.slice(0, 40)]);
            } return found; }"""
    )
    assert overlaps == []


@each_page
@each_size
def test_pictures_are_sharp_and_plots_legible(
    opened: Callable[[str, tuple[int, int]], Page], name: str, size: tuple[int, int]
) -> None:
    page = opened(name, size)
    images: list[dict[str, Any]] = page.evaluate(
        """() => [...document.images].map((image) => ({alt: image.alt, vector: image.src.startsWith('data:image/svg'),
             natural: image.naturalWidth, ratio: image.naturalWidth / image.naturalHeight, shown: image.clientWidth,
             shownRatio: image.clientWidth / image.clientHeight, how: getComputedStyle(image).imageRendering}))"""
    )
    assert len(images) >= (8 if name != "one" else 2)
    for image in images:
        assert image["alt"] and image["how"] == "auto", image
        assert image["shownRatio"] == pytest.approx(image["ratio"], rel=0.03), image
        if image["vector"]:
            # Letters of 12 points in a figure of 4.2 inches.
            assert 12 / 72 / 4.2 * image["shown"] >= 11, image
        else:
            assert 150 <= image["shown"] <= image["natural"], image
    if name == "photos":
        assert {round(image["natural"]) for image in images} == {560}


@pytest.mark.parametrize(("name", "most"), [("demo", 40_000), ("scenes", 40_000), ("photos", 90_000)])
def test_pages_are_small(pages: dict[str, Path], name: str, most: int) -> None:
    """Bytes of each picture; a report has up to 32 of them."""
    page = pages[name].read_text(encoding="utf-8")
    assert len(page) < most * page.count("<img ") < 3_000_000


def test_tables_break_no_words_on_a_phone(opened: Callable[[str, tuple[int, int]], Page]) -> None:
    """The widest word of each first cell fits in its column, so that it stays whole."""
    for name in ("demo", "scenes"):
        page = opened(name, PHONE)
        broken: list[str] = page.evaluate(
            """() => [...document.querySelectorAll('table:not(.words) td, table:not(.words) th')].filter((cell) => {
                 const range = document.createRange();
                 for (const node of [...cell.childNodes].flatMap((part) => part.nodeType == 3 ? [part]
                                                                          : [...part.childNodes])) {
                   if (node.nodeType != 3) continue;
                   for (const word of node.data.matchAll(/\\S+/g)) {
                     range.setStart(node, word.index); range.setEnd(node, word.index + word[0].length);
                     if (range.getClientRects().length > 1) return true;
                   }
                 } return false; }).map((cell) => cell.textContent)"""
        )
        assert broken == []


@each_page
def test_pages_are_accessible(opened: Callable[[str, tuple[int, int]], Page], name: str) -> None:
    assert findings(opened(name, DESK)) == []


def test_the_warning_is_seen_without_scrolling(opened: Callable[[str, tuple[int, int]], Page]) -> None:
    box = opened("scenes", PHONE).get_by_text(WARNING).bounding_box()
    assert box is not None and box["y"] + box["height"] < PHONE[1]
