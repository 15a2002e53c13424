"""The demo's page: the story, typical cases, failures, curves that say something, and what to do next."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.chained_answers import chained
from helpers.evaluated import NOTHING, SPEC, predicted, scenes, summary_of, true_texts

from seg_zero.answer import write_answer
from seg_zero.cli.demo import main
from seg_zero.cli.demo.curves import curves_section, draw_curve, read_curves, running_mean, says_something
from seg_zero.cli.demo.hops import OF_THOUGHTS, overrides
from seg_zero.cli.demo.page import Page, Spoken, _change, draw_before_after, next_commands, write_page
from seg_zero.cli.main import main as command
from seg_zero.errors import InputError

ELSEWHERE = write_answer("looks red", '[{"bbox_2d":[0,0,12,12],"point_2d":[4,4]}]')
RISING = [0.1 + 0.02 * i for i in range(20)]


def demo(count: int = 24, wrong: Sequence[int] = (0, 1)) -> Page:
    rows = scenes(count)
    right = true_texts(rows)
    after = [NOTHING if i in wrong else text for i, text in enumerate(right)]
    before = predicted(rows, [ELSEWHERE] * count)
    steps = list(range(1, 21))
    curves = {
        "reward/score/mean": (steps, [4 * value for value in RISING]),
        "reward/box_iou/mean": (steps, RISING),
        "actor/entropy": (steps, [0.5] * 20),
        "reward/format/mean": (steps, [0.99 + 0.001 * (i % 7) for i in range(20)]),
    }
    found = predicted(rows, after)
    return Page(
        summary_of(before), summary_of(found), before, found, rows, curves, SPEC, {"train": 90.0, "merge": 30.0},
        "2 cores", "outputs/demo/merged",
        [Spoken(f"the <b>{number}</b>", "I see it", rows[0].image()) for number in range(3)], chained(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("demo") / "index.html"
    write_page(path, demo())
    return path.read_text(encoding="utf-8")


def test_the_page_tells_pictures_numbers_failures_curves_and_next_in_this_order(page: str) -> None:
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "Before and after training",
        "The numbers",
        "What still goes wrong",
        "A conversation",
        "How it learned",
        "Several steps of reasoning",
        "What to do next",
    ]
    lead = re.findall('<p class="lead">(.*?)</p>', page)[0]
    assert lead.count(". ") == 1 and lead.endswith(".") and "on 24 questions" in lead and "(1 is perfect)" in lead
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_words_are_explained_where_they_stand(page: str) -> None:
    for word, meaning in (
        ("IoU:", "divided by the area"),
        ("policy, as", "the model that answers"),
        ("GRPO, ", "method"),
    ):
        assert meaning in page[page.index(word) :][:120], word


def test_the_page_ends_with_the_commands(page: str) -> None:
    end = re.sub("</?span>", "", page[page.index("What to do next") :])
    for what, line in next_commands("outputs/demo/merged"):
        assert what in end and line.replace("'", "&#x27;") in end


@pytest.mark.parametrize("line", [line for _, line in next_commands("FOLDER")])
def test_the_commands_exist_with_their_options(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = line.split()
    assert words[0] == "seg-zero"
    path = words[1:3] if words[1] == "data" else words[1:2]
    with pytest.raises(SystemExit):
        command([*path, "--help"])
    shown = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--")):
        assert option in shown, option


def test_failures_are_shown_with_their_reason_and_number(page: str) -> None:
    part = page[page.index("What still goes wrong") : page.index("A conversation")]
    assert "2 of 24 answers still have an IoU below 0.5" in part
    assert "2 answers: there is a target, but no pixel was found" in part
    assert "After training, the answer says that nothing matches, but something does." in part


@pytest.mark.parametrize(
    ("before", "after", "cell"),
    [
        (0.5, 0.75, '<td class="up">+0.250</td>'),
        (0.75, 0.5, '<td class="down">-0.250</td>'),
        (1.0, 1.0, "<td>0.000</td>"),
        (0.5, 0.4999, "<td>0.000</td>"),
        (0.5, 0.5001, "<td>0.000</td>"),
    ],
)
def test_no_change_is_neither_good_nor_bad(before: float, after: float, cell: str) -> None:
    assert _change(before, after) == cell


def test_without_failures_none_is_shown(tmp_path: Path) -> None:
    write_page(tmp_path / "index.html", demo(wrong=()))
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    part = page[page.index("What still goes wrong") : page.index("A conversation")]
    assert "0 of 24 answers still have" in part and "first example" not in part and 'class="case"' not in part


def test_typical_is_the_median_gain_of_each_kind_and_questions_without_a_target_come_last() -> None:
    page = demo()
    gains, chosen = page.gains, page.typical()
    kinds = [page.rows[place].kind for place in chosen]
    assert sorted(kinds) == sorted({row.kind for row in page.rows}) and kinds[-1] == "none"
    for place, kind in zip(chosen, kinds, strict=True):
        own = sorted(gain for gain, row in zip(gains, page.rows, strict=True) if row.kind == kind)
        assert gains[place] == own[len(own) // 2]
    with_target = [gains[place] for place in chosen[:-1]]
    assert with_target == sorted(with_target, reverse=True)


def test_a_demo_of_two_questions_has_a_page_and_a_picture(tmp_path: Path) -> None:
    small = demo(2, wrong=())
    write_page(tmp_path / "index.html", small)
    assert draw_before_after(small).width > 400


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (RISING, True),
        ([5.0, 4.5, 4.0, 3.5, 3.0, 2.5, 2.0], True),
        ([0.0] * 20, False),
        ([1.0] * 20, False),
        ([0.985, 1.0] * 10, False),
        ([0.2, 0.8] * 20, True),
        (RISING[:4], False),
    ],
)
def test_only_curves_that_move_say_something(values: list[float], says: bool) -> None:
    assert says_something(values) == says


def test_only_moving_curves_are_drawn_and_the_terms_that_rest_are_named() -> None:
    section = curves_section(demo().curves)
    assert section.count("<figure>") == 2 and "entropy" not in section
    assert re.search(r"format <small>hardly moved</small></td><td>0.99</td><td>0.99", section)
    assert "None of the curves moved" in curves_section({"actor/entropy": ([1, 2], [0.5, 0.4])})


def test_axes_start_at_zero_and_end_at_one_for_fractions(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[float, float]] = []

    def kept(figure: object, description: str) -> str:
        limits.append(figure.axes[0].get_ylim())  # type: ignore[attr-defined]
        return description

    monkeypatch.setattr("seg_zero.cli.demo.curves.plot", kept)
    steps = list(range(7))
    assert draw_curve("IoU", (steps, [0.5, 0.6, 0.6, 0.7, 0.8, 0.8, 0.9])) == "IoU: 0.64 at the start, 0.76 at the end"
    draw_curve("score", (steps, [3.0, 3.1, 3.2, 3.5, 3.6, 4.0, 4.0]))
    assert limits[0] == (0.0, 1.0) and limits[1][0] == 0.0 and 4.0 < limits[1][1] < 4.5


def test_curves_are_read_by_step(tmp_path: Path) -> None:
    lines = [{"step": 1, "reward/iou/mean": 0.25, "timing_s/step": 7}, {"step": 2, "reward/iou/mean": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read_curves(tmp_path / "metrics.jsonl") == {"reward/iou/mean": ([1.0, 2.0], [0.25, 0.5])}
    assert read_curves(tmp_path / "metrics.jsonl", ("timing_s/step", "none")) == {"timing_s/step": ([1.0], [7.0])}
    assert list(running_mean([1.0, 2.0])) == [1.5]


@pytest.mark.parametrize(("option", "least"), [("--held_out", 2), ("--steps", 1), ("--reasoning_steps", 0)])
def test_too_small_a_demo_is_refused_at_once(option: str, least: int) -> None:
    with pytest.raises(InputError, match=f"{option} {least - 1} must be at least {least}"):
        main([option, str(least - 1)])


def test_the_page_says_how_many_steps_were_asked_written_and_right(page: str) -> None:
    part = page.partition("<h2>Several steps of reasoning</h2>")[2].partition("<details>")[0]
    rows = [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr>(<td>.*?)</tr>", part)]
    assert [row[0] for row in rows] == ["1", "2", "3<small>not in training</small>", "4<small>not in training</small>"]
    assert [row[2] for row in rows] == ["1.0 → 1.0", "1.0 → 2.0", "1.0 → 3.0", "1.0 → 4.0"]
    assert [row[3] for row in rows] == ["100 → 100", *["0 → 100"] * 3]
    assert rows[1][1] == "0 → 100" and "Of 2 held-out questions of each number of steps" in part


def test_a_chosen_reward_is_left_as_it_is_and_the_start_is_not_exchanged() -> None:
    usual, chosen = overrides([]), overrides(["reward=seg", "worker.actor.model.model_path=other"])
    assert [word for word in usual if word.startswith("reward")] == [f"reward.terms.{t}.weight=0" for t in OF_THOUGHTS]
    assert [word for word in chosen if word.startswith("reward")] == ["reward=seg"]
    assert [word for word in chosen if "model_path" in word][-1] == usual[0]


def test_without_a_second_training_the_page_says_nothing_of_it(tmp_path: Path) -> None:
    write_page(tmp_path / "index.html", replace(demo(), chained=None))
    assert "Several steps of reasoning" not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_demo_prints_a_line_for_each_number_of_steps() -> None:
    lines = chained().table().splitlines()
    assert len(lines) == 5
    assert "1.00 -> 3.00" in lines[3] and lines[3].endswith("0.00 -> 1.00")
