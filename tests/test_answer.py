"""Reading and writing answers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_zero.answer import parse_answer, parse_solution, write_answer, write_solution_multi, write_solution_single
from seg_zero.objects import PromptObject

OBJECT = PromptObject((1.0, 2.0, 30.0, 40.0), ((10.0, 20.0),))


def wrap(answer: str, thinking: str = "because") -> str:
    return f"<think>{thinking}</think><answer>{answer}</answer>"


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        (wrap('{"bbox": [1,2,30,40], "points_1": [10,20], "points_2": [11,21]}'), 1),
        (wrap('[{"bbox_2d": [1,2,30,40], "point_2d": [10,20]}]'), 1),
        (wrap('```json\n[{"bbox_2d": [1,2,30,40], "point_2d": [10,20]}]\n```'), 1),
        (wrap('[{"bbox_2d": [1,2,30,40]}, {"point_2d": [10,20]}]'), 2),
        (wrap('[{"bbox_2d": [1,2,30,40]}, {"colour": "red"}, 7]'), 1),
        (wrap("[]"), 0),
        ("no think block <answer>[]</answer>", 0),
    ],
)
def test_well_formed_answers_are_read(text: str, objects: int) -> None:
    answer = parse_answer(text)
    assert answer.problem is None
    assert len(answer.objects) == objects


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no <answer>"),
        ("<answer>[]", "no <answer>"),
        ('<think>[{"bbox_2d":[1,2,3,4]}]</think>', "no <answer>"),
        (wrap(""), "not JSON"),
        (wrap("{'bbox': [1,2,3,4], \"note\": 1}"), "not JSON"),
        (wrap('[{"bbox_2d": [NaN,2,3,4]}]'), "not JSON"),
        (wrap('[{"bbox_2d": [Infinity,2,3,4]}]'), "not JSON"),
        (wrap('[{"bbox_2d": [1e309,2,3,4]}]'), "no object"),
        (wrap('[{"bbox_2d": ["1","2","3","4"]}]'), "no object"),
        (wrap('[{"bbox_2d": [true,2,3,4]}]'), "no object"),
        (wrap('[{"bbox_2d": [1,2,3]}]'), "no object"),
        (wrap('[{"bbox_2d": [' + "9" * 5000 + ",2,3,4]}]"), "not JSON"),
        (wrap("[" * 60_000), "not JSON"),
        (wrap("7"), "JSON int"),
        (wrap("null"), "JSON NoneType"),
        (wrap("x" * 100_000), "characters"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_malformed_answers_are_named_and_never_raise(text: str, problem: str) -> None:
    answer = parse_answer(text)
    assert answer.objects == ()
    assert answer.problem is not None and problem in answer.problem
    assert answer.text == text


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=300).map(lambda t: t)
    | st.text(alphabet='[]{}<>/answerthik":,0159-.eEbox_2d \n', max_size=300).map(wrap)
)
def test_no_text_makes_the_parser_raise(text: str) -> None:
    parse_answer(text)


def test_written_answers_read_back() -> None:
    text = write_answer("two of them", write_solution_multi([OBJECT, OBJECT]))
    answer = parse_answer(text)
    assert answer.objects == (OBJECT, OBJECT)
    assert answer.thinking == "two of them"


def test_both_published_solution_formats_read_back() -> None:
    single = PromptObject((1.0, 2.0, 30.0, 40.0), ((10.0, 20.0), (11.0, 21.0)))
    assert write_solution_single(single) == "<box>(1,2),(30,40)</box><points>(10,20),(11,21)</points>"
    assert parse_solution(write_solution_single(single)) == (single,)
    assert parse_solution(write_solution_multi([OBJECT])) == (OBJECT,)
    assert parse_solution("[]") == ()


@pytest.mark.parametrize("solution", ["", "<box>(1,2)</box>", "[1]", '[{"bbox_2d": [1,2]}]', "{}", "null"])
def test_unreadable_ground_truth_raises_with_the_text(solution: str) -> None:
    with pytest.raises(ValueError, match="cannot read the solution"):
        parse_solution(solution)


def test_quotes_of_python_are_read_too() -> None:
    """Prompts published with single-quoted examples taught policies to write them."""
    (item,) = parse_answer(wrap("{'bbox': [1,2,3,4], 'points_1': [2,3], 'points_2': [1,2]}")).objects
    assert item == PromptObject((1, 2, 3, 4), ((2, 3), (1, 2)))


ITEM = '{"bbox_2d": [1,2,30,40], "point_2d": [10,20]}'


@pytest.mark.parametrize(
    ("block", "objects"),
    [
        (f"Here it is: [{ITEM}]", 1),
        (f"[{ITEM}] is all that matches.", 1),
        (f"The boxes [left to right], see [1]:\n```json\n[{ITEM}, {ITEM}]\n```\nDone.", 2),
        (f"[{ITEM}],", 1),
        (f", [{ITEM}]", 1),
        (f"[{ITEM}, ]", 1),
        (f"{ITEM},\n{ITEM}", 2),
        (f"{ITEM} and {ITEM}", 2),
        (f"either [{ITEM}] or [{ITEM}]", 2),  # a hedge counts as two objects
        (f"It's [{ITEM}]".replace('"', "'"), 1),
        ("Nothing matches: []", 0),
        (f"[] would be wrong: [{ITEM}]", 1),
    ],
)
def test_prose_and_commas_around_the_json_do_not_matter(block: str, objects: int) -> None:
    answer = parse_answer(wrap(block))
    assert answer.problem is None and answer.left_out == 0
    assert answer.objects == (OBJECT,) * objects


@pytest.mark.parametrize(
    "block",
    [
        f"[{ITEM}, {ITEM}",
        f"{ITEM}]",
        f"[{ITEM[:-1]}",
        f"[{ITEM}] {{",
        f"[{ITEM}, NaN]",
        "the first one",
        "[1] is the first one",
        "[" * 30_000 + "]" * 30_000,
        f"{ITEM} {{'x'}}",
    ],
    ids=lambda block: block[:30],
)
def test_broken_json_in_prose_is_no_answer(block: str) -> None:
    answer = parse_answer(wrap(block))
    assert answer.objects == () and answer.problem is not None


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        (f"<think>It goes into <answer> tags.</think><answer>[{ITEM}]</answer>", 1),
        (f"<think>I close with </answer>, open with <answer>.</think><answer>[{ITEM}]</answer>", 1),
        (f"<think>a draft: <answer>[]</answer></think><answer>[{ITEM}]</answer>", 1),
        (f"<answer>[{ITEM}]</answer> stands in <answer> tags", 1),
        (f"<think>a</think><answer>[]</answer><answer>[{ITEM}]</answer>", 1),
        (f"<think><answer>[{ITEM}]</answer></think>", None),
        (f"<think><answer>[{ITEM}]</answer></think> so be it", None),
    ],
)
def test_the_answer_block_is_the_last_one_outside_the_reasoning(text: str, objects: int | None) -> None:
    answer = parse_answer(text)
    assert (answer.problem is None) == (objects is not None)
    assert len(answer.objects) == (objects or 0)


def test_entries_that_are_no_objects_are_counted() -> None:
    good = '{"bbox_2d": [1,2,3,4], "point_2d": [2,3]}'
    assert parse_answer(wrap(f"[{good}, 5, {{}}]")).left_out == 2
    assert parse_answer(wrap("[" + ",".join([good] * 125) + "]")).left_out == 5
