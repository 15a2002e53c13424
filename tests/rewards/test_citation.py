"""The reward for naming what a question refers to."""

from __future__ import annotations

import pytest

from seg_zero.rewards import Response
from seg_zero.rewards.citation import citation, cited_boxes

ONE, TWO, OWN = (10.0, 20.0, 50.0, 60.0), (70.0, 5.0, 90.0, 30.0), (1.0, 2.0, 3.0, 4.0)


def response(thinking: str, referred: tuple[tuple[float, float, float, float], ...]) -> Response:
    text = f'<think>{thinking}</think><answer>[{{"bbox_2d":[1,2,3,4],"point_2d":[2,3]}}]</answer>'
    return Response(text, "[]", (112, 112), referred=referred)


@pytest.mark.parametrize(
    ("thinking", "referred", "value"),
    [
        ("left of it", (), 1.0),
        ("I see [5, 5, 9, 9]", (), 0.0),
        ("it is at [1, 2, 3, 4]", (), 1.0),
        ("left of [10,20,50,60]", (ONE,), 1.0),
        ("left of [11, 20.4, 49, 60], so [1,2,3,4]", (ONE,), 1.0),
        ("left of (10, 20, 50, 60)", (ONE,), 1.0),
        ("left of it", (ONE,), 0.0),
        ("left of [13,20,50,60]", (ONE,), 0.0),
        ("between [10,20,50,60] and the other", (ONE, TWO), 0.5),
        ("left of [10,20,50,60], right of [99,99,110,110]", (ONE,), 0.5),
        ("[10,20,50,60] [70,5,90,30]", (ONE,), 0.5),
        ("[10,20,50,60,70]", (ONE,), 0.0),
    ],
)
def test_what_is_referred_to_is_named_and_nothing_else(
    thinking: str, referred: tuple[tuple[float, float, float, float], ...], value: float
) -> None:
    assert citation(response(thinking, referred)) == pytest.approx(value)


def test_boxes_of_the_answer_are_no_citations() -> None:
    assert citation(response("the one there", (OWN,))) == 0.0


def test_numbers_that_are_no_boxes_are_not_read() -> None:
    assert cited_boxes("[1,2] [1,2,3] instance 1, 4 of them, [a,b,c,d]") == []
    assert cited_boxes("[ -1 , 2.5,3,4 ]") == [(-1.0, 2.5, 3.0, 4.0)]
