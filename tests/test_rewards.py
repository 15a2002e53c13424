"""Reward presets: published values, and the faults that the default must not have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rewards

ROWS = [json.loads(line) for line in Path(__file__).with_name("published_rewards.jsonl").read_text().splitlines()]
TRUTH = '[{"bbox_2d":[20,20,60,60],"point_2d":[40,40]}]'
SIZE = (112, 112)


def ours(
    answer: str, truth: str = TRUTH, thinking: str = "the red one", size: tuple[int, int] = SIZE
) -> dict[str, float]:
    return rewards.compute("seg_zero", f"<think>{thinking}</think><answer>{answer}</answer>", truth, size)


@pytest.mark.parametrize("preset", ["seg", "seg_strict", "vision_reasoner"])
def test_published_presets_match_the_published_values(preset: str) -> None:
    rows = [row for row in ROWS if preset in row]
    assert len(rows) == 400
    for row in rows:
        got = rewards.compute(preset, row["prediction"], row["ground_truth"], (840, 840))
        assert got == pytest.approx(row[preset]), row["prediction"]


def test_right_answer_earns_everything() -> None:
    terms = ours(TRUTH)
    assert set(terms.values()) == {1.0, terms["total"]}
    assert terms["total"] == len(terms) - 1


def accuracy(terms: dict[str, float]) -> float:
    return terms["iou"] + terms["iou_soft"] + terms["box_l1"] + terms["point"]


def test_empty_answer_earns_full_accuracy_only_when_nothing_matches() -> None:
    assert accuracy(ours("[]", truth="[]")) == 4.0
    assert accuracy(ours("[]")) == 0.0
    assert accuracy(ours(TRUTH, truth="[]")) == 0.0
    assert accuracy(rewards.compute("seg_zero", "gibberish", "[]", SIZE)) == 0.0


def test_json_in_the_think_block_earns_nothing() -> None:
    assert accuracy(ours("", thinking=TRUTH)) == 0.0


def test_string_coordinates_lose_the_format_term() -> None:
    assert ours('[{"bbox_2d":["20","20","60","60"],"point_2d":["40","40"]}]')["format"] == 0.0


def test_missing_point_costs_its_object_only() -> None:
    truth = '[{"bbox_2d":[20,20,60,60],"point_2d":[40,40]},{"bbox_2d":[70,70,100,100],"point_2d":[85,85]}]'
    answer = '[{"bbox_2d":[20,20,60,60]},{"bbox_2d":[70,70,100,100],"point_2d":[85,85]}]'
    terms = ours(answer, truth)
    assert (terms["iou"], terms["point"], terms["format"]) == (1.0, 0.5, 0.75)


def test_trailing_newline_keeps_the_think_term() -> None:
    text = f"<think>a</think>\n<answer>{TRUTH}</answer>\n"
    assert rewards.compute("seg_zero", text, TRUTH, SIZE)["think"] == 1.0


def test_thresholds_scale_with_the_image() -> None:
    for side in (112, 840):
        shift = 12 * side / 840  # more than 10/840 of the side
        box = [20 * side / 112 + shift, 20 * side / 112 + shift, 60 * side / 112 + shift, 60 * side / 112 + shift]
        truth = json.dumps([{"bbox_2d": [v * side / 112 for v in (20, 20, 60, 60)], "point_2d": [40 * side / 112] * 2}])
        answer = json.dumps([{"bbox_2d": box, "point_2d": [40 * side / 112] * 2}])
        assert ours(answer, truth, size=(side, side))["box_l1"] == 0.0


def test_extra_and_doubled_objects_cost() -> None:
    one = '{"bbox_2d":[20,20,60,60],"point_2d":[40,40]}'
    assert ours(f"[{one},{one}]")["iou_soft"] == pytest.approx(0.5)


def test_repeated_sentences_lose_non_repeat() -> None:
    assert ours(TRUTH, thinking="It is red. It is red.")["non_repeat"] == 0.0


def test_weights_change_the_total_only() -> None:
    text = f"<think>a</think><answer>{TRUTH}</answer>"
    heavy = rewards.compute("seg_zero", text, TRUTH, SIZE, weights={"iou": 3.0, "point": 0.0})
    assert heavy["iou"] == 1.0 and "point" not in heavy and heavy["total"] == 8.0


@pytest.mark.parametrize(("preset", "weights"), [("nope", None), ("seg", {"iou": 2.0}), ("seg_zero", {"nope": 1.0})])
def test_unknown_presets_and_terms_are_named(preset: str, weights: dict[str, float] | None) -> None:
    with pytest.raises(ValueError, match=r"nope|fixed weights"):
        rewards.compute(preset, "", TRUTH, SIZE, weights)


NASTY = [
    "",
    "<think>" * 50_000,
    "<answer>" + "[" * 100_000 + "</answer>",
    "<answer>" + '{"bbox_2d":' * 3_000 + "</answer>",
    "{" * 200_000,
    "<think></think><answer>" * 20_000,
    "<think>a</think>" + " " * 200_000 + "<answer>[]",
    '<answer>[{"bbox_2d":[1e308,1e308,-1e308,1],"point_2d":[1,1e308]}]</answer>',
    '<answer>[{"bbox_2d":[5,5,5,5],"point_2d":[5,5]}]</answer>',
    '<answer>[{"bbox_2d":[60,60,20,20],"point_2d":[40,40]}]</answer>',
    '<answer>[{"bbox_2d":[0,0,-1,-1],"point_2d":[0,0]}]</answer>',
    "<answer>[" + ",".join(['{"bbox_2d":[1,2,3,4],"point_2d":[1,2]}'] * 2_000) + "]</answer>",
    '<answer>[{"bbox_2d":{"0":1},"point_2d":null}]</answer>',
    '<answer>[{"bbox_2d":[[1,2],[3,4],[5,6],[7,8]],"point_2d":[[1],[2]]}]</answer>',
    "a." * 100_000,
]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
@pytest.mark.timeout(5)
def test_nasty_texts_score_quickly_and_within_bounds(text: str) -> None:
    single = "<box>(20,20),(60,60)</box><points>(30,30),(50,50)</points>"
    for preset, truth in (("seg", single), ("seg_strict", single), ("vision_reasoner", TRUTH), ("seg_zero", TRUTH)):
        for value in rewards.compute(preset, text, truth, SIZE).values():
            assert 0.0 <= value <= 7.0


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "bbox_2d": st.lists(st.floats() | st.integers() | st.text(max_size=3) | st.none(), max_size=5),
                "point_2d": st.lists(st.floats() | st.integers(), max_size=3) | st.booleans(),
            },
        ),
        max_size=6,
    )
)
def test_any_json_answer_scores_within_bounds(objects: list[dict[str, object]]) -> None:
    text = f"<think>a</think><answer>{json.dumps(objects)}</answer>"
    for preset, best in (("vision_reasoner", 7.0), ("seg_zero", 7.0)):
        assert 0.0 <= rewards.compute(preset, text, TRUTH, SIZE)["total"] <= best
