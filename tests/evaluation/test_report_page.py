"""The evaluation's page: plain words, the right number of them, and typical rows first."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.evaluated import NOTHING, WARNING, predicted, scenes, summary_of, true_texts

from seg_zero.answer import write_answer
from seg_zero.data.rows import Row
from seg_zero.errors import counted
from seg_zero.evaluation.page import write_page
from seg_zero.evaluation.predictions import Prediction
from seg_zero.evaluation.run import wall_clock_line
from seg_zero.evaluation.summary import OUTCOMES
from seg_zero.evaluation.wording import METRICS, OUTCOME_COLOURS, OUTCOME_MEANINGS, by_kind, explain, shortened
from seg_zero.metrics import GRES_FRACTIONS, MaskCounts

ELSEWHERE = write_answer("there", '[{"bbox_2d":[0,0,9,9],"point_2d":[4,4]}]')


def page_of(rows: list[Row], predictions: list[Prediction], folder: Path) -> str:
    path = folder / "report.html"
    write_page(path, summary_of(predictions), predictions, rows, wall_clock_line(len(rows), len(rows), 2.0))
    return path.read_text(encoding="utf-8")


def scored(shared: int, predicted: int, truth: int, named: int = 1, **fields: object) -> Prediction:
    objects = (tuple({"box": (0, 0, 1, 1), "points": ()} for _ in range(named)),)
    counts = MaskCounts(shared, predicted, truth)
    return replace(Prediction(0, "a", "q", "", texts=("",), objects=objects, counts=counts), **fields)


@pytest.mark.parametrize(
    ("prediction", "wanted", "says"),
    [
        (scored(96, 98, 100), 1, "The mask fits the target."),
        (scored(60, 60, 100), 1, "The mask misses 40 % of the target."),
        (scored(60, 60, 100, named=2), 3, "The mask misses 40 % of the target. The answer names 2 of 3 objects."),
        (scored(100, 200, 100), 1, "50 % of the mask lies outside the target."),
        (
            scored(100, 200, 100, named=2),
            1,
            "50 % of the mask lies outside the target. The answer names 2 objects, but 1 is meant.",
        ),
        (scored(50, 100, 100), None, "The mask misses 50 % of the target, and 50 % of the mask lies outside it."),
        (scored(0, 80, 100), 1, "The mask is on something else."),
        (scored(5, 6, 100), 1, "The mask covers hardly any of the target."),
        (scored(0, 0, 100, named=0), 1, "The answer says that nothing matches, but something does."),
        (scored(0, 0, 100), 1, "The segmenter found nothing at the boxes and points of the answer."),
        (scored(0, 9, 0), 0, "Nothing matches the question, but the answer names 1 object."),
        (scored(0, 0, 0, named=0), 0, "Nothing matches the question, and the answer says so."),
        (scored(0, 0, 0, problem="no block"), 0, "The answer could not be read, so it counts 0: no block."),
        (
            scored(0, 0, 9, problem="no block", truncated=True),
            1,
            "The answer could not be read, so it counts 0: no block. The text was cut at the limit of tokens.",
        ),
        (scored(0, 0, 9, failure="out of memory"), 1, "The row could not be answered: out of memory."),
    ],
)
def test_a_row_is_explained(prediction: Prediction, wanted: int | None, says: str) -> None:
    assert explain(prediction, wanted).replace("\N{NO-BREAK SPACE}", " ") == says


def test_every_outcome_and_metric_has_words() -> None:
    assert list(OUTCOMES) == list(OUTCOME_MEANINGS) == list(OUTCOME_COLOURS)
    assert len(set(OUTCOME_COLOURS.values())) == len(OUTCOMES)
    rows = scenes(12)
    summary = summary_of(predicted(rows, true_texts(rows)))
    assert {*summary.metrics, *GRES_FRACTIONS} <= METRICS.keys()


def test_words_have_the_right_number() -> None:
    assert (counted(1, "row"), counted(0, "row"), counted(2000, "row")) == ("1 row", "0 rows", "2,000 rows")
    assert "of 1 row in" in wall_clock_line(1, 1, 2.0) and "of 2 rows in" in wall_clock_line(2, 2, 2.0)
    assert wall_clock_line(1, 0, 2.0) == "the row was there already"


def test_a_long_text_is_cut_in_any_script() -> None:
    assert shortened("short") == "short"
    assert shortened("圆" * 400, 10) == "圆" * 9 + "…"


def test_a_page_of_one_row_speaks_of_one_row_and_no_interval(tmp_path: Path) -> None:
    rows = scenes(1)
    page = page_of(rows, predicted(rows, true_texts(rows)), tmp_path)
    words = re.sub(r"<[^>]*>", " ", page)
    assert "1 row" in words and not re.search(r"\b1 (rows|tokens|answers|objects)\b", words)
    assert "A single row has no interval." in words and "interval</th>" not in page and 'class="histogram"' not in page


def test_the_page_stands_alone_warns_and_explains(tmp_path: Path) -> None:
    rows = scenes(12)
    texts = true_texts(rows)
    texts[3], texts[5], texts[7] = "I cannot say", NOTHING, ELSEWHERE
    rows[0] = replace(rows[0], problem="<b>the & square</b>")
    page = page_of(rows, predicted(rows, texts), tmp_path)
    assert not re.search(r'(src|href)="(?!data:)', page) and "http" not in re.sub('base64,[^"]*', "", page)
    assert page.index(WARNING) < page.index("gIoU")
    assert "“&lt;b&gt;the &amp; square&lt;/b&gt;”" in page and "<b>the & square" not in page
    assert page.index("<h2>Typical") < page.index("<h2>Worst") < page.index("<h2>Best")
    assert "could not be read" in page and "I cannot say" in page
    for name in ("gIoU", "cIoU", "box_acc@0.5"):
        assert page.index(METRICS[name]) < page.index("<h2>What became")
    assert "<td>engine</td>" not in page and "<td>prompt, template</td><td>brief</td>" in page


def test_the_typical_row_of_each_kind_is_that_of_median_iou(tmp_path: Path) -> None:
    rows = [replace(row, kind="pos" if i < 3 else "new") for i, row in enumerate(scenes(6, seed=11))]
    rows = [replace(row, problem=f"question {i}") for i, row in enumerate(rows)]
    found = [
        replace(prediction, counts=MaskCounts(shared, 100, 100))
        for prediction, shared in zip(predicted(rows, true_texts(rows)), (10, 90, 60, 95, 20, 70), strict=True)
    ]
    rows, found = [*rows, rows[0]], [*found, replace(found[0], row=0, kind="rare", question="the odd one")]
    page = page_of(rows, found, tmp_path)
    typical = page[page.index("<h2>Typical") : page.index("<h2>Worst")]
    assert re.findall(r"question \d|the odd one", "".join(re.findall("<h3>.*?</h3>", typical))) == [
        "question 2",
        "question 5",
        "the odd one",
    ]


def test_kinds_come_from_simple_to_odd() -> None:
    assert by_kind(["none", "zebra", "attr", "plural", ""]) == ["attr", "plural", "none", "", "zebra"]


def test_a_row_that_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    rows = scenes(2)
    found = predicted(rows, true_texts(rows))
    rows[1] = replace(rows[1], image_bytes=b"no picture")
    assert "cannot be drawn: " in page_of(rows, found, tmp_path)
