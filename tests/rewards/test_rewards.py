"""Reward presets: published values, and the faults that the default must not have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers import fuzz_rewards
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_zero import rewards
from seg_zero.answer import parse_solution, write_solution_multi, write_solution_single
from seg_zero.rewards import response as response_module
from seg_zero.rewards.presets import preset_settings, read_terms
from seg_zero.rewards.response import Response, match


def recorded(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(__file__).with_name(name).read_text().splitlines()]


SINGLE = "<box>(20,20),(60,60)</box><points>(30,30),(50,50)</points>"
TRUTH = '[{"bbox_2d":[20,20,60,60],"point_2d":[40,40]}]'
SIZE = (112, 112)
HIGHEST = fuzz_rewards.HIGHEST


def ours(
    answer: str, truth: str = TRUTH, thinking: str = "the red one", size: tuple[int, int] = SIZE
) -> dict[str, float]:
    return rewards.compute("seg_zero", f"<think>{thinking}</think><answer>{answer}</answer>", truth, size)


@pytest.mark.parametrize(
    ("file", "preset", "count"),
    [
        ("published_rewards.jsonl", "seg", 400),
        ("published_rewards.jsonl", "seg_strict", 400),
        ("published_rewards.jsonl", "vision_reasoner", 400),
        # Braces in the reasoning, several answers, odd JSON, 30-digit numbers, boxes of one pixel, text for numbers.
        ("published_rewards_hostile.jsonl", "seg", 916),
        ("published_rewards_hostile.jsonl", "seg_strict", 916),
        ("published_rewards_hostile.jsonl", "vision_reasoner", 284),
    ],
)
def test_published_presets_match_the_published_values(file: str, preset: str, count: int) -> None:
    rows = [row for row in recorded(file) if preset in row]
    assert len(rows) == count
    for row in rows:
        got = rewards.compute(preset, row["prediction"], row["ground_truth"], (840, 840))
        assert got == pytest.approx(row[preset]), row["prediction"]


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        (TRUTH, TRUTH),
        (f"```json\n{TRUTH}\n```", TRUTH),
        ('{"bbox":[20,20,60,60],"points_1":[30,30],"points_2":[50,50]}', SINGLE),
        ('{"bbox":[20,20,60,60],"points_1":[50,50],"points_2":[30,30]}', SINGLE),
        ('[{"bbox_2d":[20,20,60,60],"point_2d":[50,50]}]', SINGLE),
        ("[]", "[]"),
    ],
)
def test_right_answer_earns_everything(answer: str, truth: str) -> None:
    """In either format, against either format; the order of two points does not matter."""
    terms = ours(answer, truth)
    assert set(terms.values()) == {1.0, HIGHEST} and terms["total"] == HIGHEST


def test_copied_example_with_single_quotes_is_well_formed() -> None:
    terms = ours("{'bbox': [20,20,60,60], 'points_1': [30,30], 'points_2': [50,50]}", SINGLE)
    assert terms["total"] == HIGHEST


def test_shipped_prompts_show_an_example_that_is_well_formed() -> None:
    from seg_zero.prompting import TEMPLATES

    for name in ("single", "multi"):
        example = TEMPLATES[name][TEMPLATES[name].rindex("<think>") :]
        assert rewards.compute("seg_zero", example, SINGLE, (840, 840))["format"] == 1.0


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


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("<think>The result goes into <answer> and </answer>.</think><answer>[]</answer>", 1.0),
        ("<think>a</think><answer>[]</answer><answer>[]</answer>", 0.0),
        ("<think>a</think> so <answer>[]</answer>", 0.0),
        ("<think>a</think><answer>[]</answer> so", 0.0),
        ("<think>a<think>b</think><answer>[]</answer>", 0.0),
        ("<think>a</think></think><answer>[]</answer>", 0.0),
        ("<think>a</think>", 0.0),
        ("<answer>[]</answer>", 0.0),
        ("", 0.0),
    ],
)
def test_think_wants_one_block_of_each(text: str, worth: float) -> None:
    assert rewards.compute("seg_zero", text, TRUTH, SIZE)["think"] == worth


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


@pytest.mark.parametrize("junk", ["5", "{}", '"x"', '{"bbox_2d":[1,2]}'])
def test_entries_that_cannot_be_read_cost_as_well(junk: str) -> None:
    one = '{"bbox_2d":[20,20,60,60],"point_2d":[40,40]}'
    terms = ours(f"[{one},{junk}]")
    assert (terms["iou_soft"], terms["format"]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("reasoning", "worth"),
    [
        ("It is red. It is blue.", 1.0),
        ("It is red. It is red.", 1.0),  # one repeat is free
        ("It is red. It is red. It is red.", 1 / 3),
        ("It is red.\n it  IS red! It is red?", 1 / 3),
        ("It is red.It is red.It is red.", 1 / 3),
        ("it is red\n" * 100, 0.01),
        ("它是红色的。" * 4, 0.25),
        ("It's a cup. It's a cup. It's a jug. It's a jug. Two of each, so four things.", 0.6),
        ("Seen: a cup. A jug.\n1. cup\n2. jug\n3. pan\nAgain:\n1. cup\n2. jug\n3. pan\nAll of these.", 1.0),
        ("Yes. " * 300, 0.01),  # three of them are a sentence
        ("Reds, e.g. a cup, e.g. a jug, i.e. no blues, i.e. no greens, e.g. none.", 1.0),
        ("See no. 1 and no. 2 and no. 3, approx. 3.5 by 4.5 or 3.5 by 5.5 or 3.5 by 6.5.", 1.0),
        ("It is red? No. It is blue? No. It is green? No.", 1.0),
        ("Seen:\n1. a cup\n2. a jug\n3. a pan\nChosen:\n1. the red one\n2. the blue one\n3. neither", 1.0),
        ("**1.** a cup\n**2.** a jug\n**3.** a pan\n\n**1.** red\n**2.** blue\n**3.** white", 1.0),
        ("Draft:\n```json\n[1]\n[1]\n```\nAgain:\n```json\n[1]\n[1]\n```\nAnd:\n```json\n[1]\n```", 1.0),
        ("", 1.0),
    ],
)
def test_repeated_sentences_lose_non_repeat(reasoning: str, worth: float) -> None:
    for text in (f"<think>{reasoning}</think><answer>[]</answer>", f"<think>{reasoning}", reasoning):
        assert rewards.compute("seg_zero", text, TRUTH, SIZE)["non_repeat"] == pytest.approx(worth)


def test_the_answer_block_may_repeat_itself() -> None:
    assert ours("[{'x': 1. }, {'x': 1. }, {'x': 1. }]")["non_repeat"] == 1.0


def value(name: str, answer: str, truth: str = TRUTH, mask_iou: float | None = None, **settings: object) -> float:
    text = f"<think>a</think><answer>{answer}</answer>"
    terms = {name: {"weight": 1.0, **settings}}
    return rewards.compute("seg_zero", text, truth, (840, 840), terms, mask_iou)[name]


@pytest.mark.parametrize(("distance", "worth"), [(0, 1.0), (29, 1.0), (30, 1.0), (115, 0.5), (200, 0.0), (300, 0.0)])
def test_soft_point_falls_from_30_to_200_pixels(distance: int, worth: float) -> None:
    truth = '[{"bbox_2d":[0,0,800,800],"point_2d":[10,10]}]'
    answer = f'[{{"bbox_2d":[0,0,800,800],"point_2d":[{10 + distance},10]}}]'
    assert value("point", answer, truth, zero_at=200.0) == pytest.approx(worth)
    assert value("point", answer, truth, within=30) == float(distance < 30)


def test_soft_box_terms() -> None:
    truth, answer = (f'[{{"bbox_2d":[{x},0,{x + 99},99],"point_2d":[50,50]}}]' for x in (0, 50))
    assert value("iou", answer, truth) == 0.0
    assert value("iou", answer, truth, threshold=None) == pytest.approx(50 / 150)
    assert value("box_l1", answer, truth) == 0.0
    assert value("box_l1", answer, truth, of_side=0.2, zero_at=40.0) == pytest.approx(0.5)  # off by 25 on average


def test_points_are_judged_by_the_truths_own_threshold() -> None:
    """100 pixels for two points, of which either may come first; 30 for one."""
    answer = '{"bbox":[0,0,400,400],"points_1":[160,100],"points_2":[200,300]}'
    two = "<box>(0,0),(400,400)</box><points>(200,210),(100,100)</points>"
    one = '[{"bbox_2d":[0,0,400,400],"point_2d":[100,100]}]'
    assert value("point", answer, two) == 1.0  # (60 + 90) / 2 under the better pairing
    assert value("point", answer, one) == 0.0


@pytest.mark.parametrize(
    ("mask_iou", "tiers", "linear"),
    [(None, 0.0, 0.0), (0.5, 0.0, 0.5), (0.51, 0.5, 0.51), (0.7, 0.5, 0.7), (0.8, 0.75, 0.8), (0.81, 1.0, 0.81)],
)
def test_mask_term_pays_tiers_or_the_iou(mask_iou: float | None, tiers: float, linear: float) -> None:
    assert value("mask", TRUTH, mask_iou=mask_iou) == tiers
    assert value("mask", TRUTH, mask_iou=mask_iou, tiers=None) == linear
    assert value("mask", "[]", truth="[]", mask_iou=mask_iou) == 1.0
    assert value("mask", "[]", mask_iou=mask_iou) == 0.0


@pytest.mark.parametrize(
    ("words", "worth"), [(0, 0.0), (1, 0.5), (2, 1.0), (400, 1.0), (600, 0.5), (800, 0.0), (5000, 0.0)]
)
def test_length_floor_and_budget(words: int, worth: float) -> None:
    text = "<think>" + "word " * words + "</think><answer>[]</answer>"
    assert rewards.compute("seg_zero", text, TRUTH, SIZE)["length"] == worth


def test_weights_change_the_total_only() -> None:
    text = f"<think>the left one</think><answer>{TRUTH}</answer>"
    heavy = rewards.compute("seg_zero", text, TRUTH, SIZE, {"iou": {"weight": 2.5}, "point": {"weight": 0}})
    assert heavy["iou"] == 1.0 and "point" not in heavy and heavy["total"] == 8.0  # 2 more and 1 less than 7
    published = rewards.compute("vision_reasoner", text, TRUTH, SIZE, {"accuracy": {"weight": 2}})
    assert (published["accuracy"], published["total"]) == (3.0, 10.0)


def test_a_term_of_ones_own_is_a_function_and_a_line() -> None:
    text = "<think>a</think><answer>[]</answer>"
    terms = {"share": {"function": "test_rewards.letters", "weight": 2.0, "letter": "a"}}
    assert rewards.compute("vision_reasoner", text, TRUTH, SIZE, terms)["share"] == 3.0


def letters(response: Response, letter: str) -> float:
    return response.text.count(letter)


def asked(response: Response) -> float:
    return float(response.question == "the dog" and response.kind == "attr")


def test_a_term_sees_the_question_and_its_kind() -> None:
    terms = {"asked": {"function": "test_rewards.asked", "weight": 1.0}}
    known = rewards.compute("seg_zero", "", TRUTH, SIZE, terms, question="the dog", kind="attr")
    assert (known["asked"], rewards.compute("seg_zero", "", TRUTH, SIZE, terms)["asked"]) == (1.0, 0.0)


@rewards.needs("mask")
def outline(response: Response) -> float:
    return response.mask_iou or 0.0


def test_a_term_declares_that_it_needs_a_mask() -> None:
    (own,) = read_terms({"outline": {"function": "test_rewards.outline", "weight": 1.0}})
    assert own.needs_mask
    assert [term.name for term in read_terms(preset_settings("seg_zero")) if term.needs_mask] == []
    weighted = {**preset_settings("seg_zero"), "mask": {"function": "rewards.masks.mask", "weight": 1.0}}
    assert [term.name for term in read_terms(weighted) if term.needs_mask] == ["mask"]


def test_what_no_scorer_provides_cannot_be_needed() -> None:
    with pytest.raises(ValueError, match="cannot need 'masks'; it can need mask, true_mask"):
        rewards.needs("masks")


def test_an_answer_that_was_read_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = response_module.parse_answer("<answer>[]</answer>")
    monkeypatch.setattr(response_module, "parse_answer", None)
    assert Response("", TRUTH, SIZE, parsed=parsed).answer is parsed


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"nope": {"weight": 1.0}}, "'nope' has no function"),
        ({"iou": {"weight": "2"}}, "weight '2' is not a number"),
        ({"iou": {"weight": float("nan")}}, "weight nan is not a number"),
        (
            {"iou": {"threshhold": 0.5}},
            "unexpected keyword argument 'threshhold'; seg_zero.rewards.boxes.iou takes threshold",
        ),
        ({"new": {"function": "rewards.nope.f", "weight": 1.0}}, "'rewards.nope.f' cannot be imported"),
        ({"new": {"function": "f", "weight": 1.0}}, "package.module.function"),
        ({"length": {"weight": 1.0, "budget": 5, "unknown": 1}}, "takes floor, budget, margin"),
    ],
)
def test_terms_that_are_set_up_wrongly_are_named(terms: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        rewards.compute("seg_zero", "", TRUTH, SIZE, terms)


def test_unknown_presets_and_rewards_without_terms_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown reward preset 'nope'; choose one of seg, seg_strict, seg_zero"):
        rewards.compute("nope", "", TRUTH, SIZE)
    with pytest.raises(ValueError, match="no term with a weight"):
        read_terms({"iou": {"function": "rewards.boxes.iou", "weight": 0}})


def test_ground_truth_must_fit_the_preset() -> None:
    for preset, truth in (("seg", TRUTH), ("seg_strict", "[]"), ("vision_reasoner", "nonsense"), ("seg_zero", "{}")):
        with pytest.raises(ValueError, match=r"got|cannot read"):
            rewards.compute(preset, "", truth, SIZE)


numbers = st.integers(-5, 120) | st.floats(-5, 120)
boxes = st.lists(numbers, min_size=4, max_size=4)
points = st.lists(numbers, min_size=2, max_size=2)
objects = st.fixed_dictionaries({"bbox_2d": boxes}, optional={"points_1": points, "points_2": points})


@settings(max_examples=300, deadline=None)
@given(objects, objects)
def test_one_pair_and_many_are_judged_alike(predicted: dict[str, object], true: dict[str, object]) -> None:
    """Whole objects with lone points take shorter ways; a hopeless second object with two must not change a pair."""
    far = {"bbox_2d": [9001, 9001, 9000, 9000], "points_1": [9000, 9000], "points_2": [9001, 9001]}
    one, two = (
        match(Response(f"<answer>{json.dumps([predicted, *more])}</answer>", json.dumps([true, *more]), SIZE))
        for more in ([], [far])
    )
    for name in ("iou", "box_l1", "distance", "inside", "reach"):
        assert getattr(one, name)[0] == pytest.approx(getattr(two, name)[0]), name


def test_solutions_of_both_formats_are_one_truth() -> None:
    (item,) = parse_solution(SINGLE)
    assert parse_solution(write_solution_single(item)) == (item,)
    assert parse_solution(write_solution_multi([item]))[0].box == item.box


@pytest.mark.parametrize("text", fuzz_rewards.NASTY, ids=range(len(fuzz_rewards.NASTY)))
@pytest.mark.timeout(20)
def test_nasty_texts_score_within_bounds(text: str) -> None:
    for preset, truth in fuzz_rewards.CASES:
        for found in rewards.compute(preset, text, truth, SIZE).values():
            assert 0.0 <= found <= 7.0


@pytest.mark.timeout(120)
def test_mutated_texts_score_within_bounds() -> None:
    """A short run of `python tests/helpers/fuzz_rewards.py`, which makes 200,000 texts."""
    report = fuzz_rewards.fuzz(cases=2_000, seed=1)
    assert report.texts == 2_000 and report.out_of_bounds == []


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


ITEM = {"bbox_2d": [10, 10, 50, 50], "point_2d": [30, 30]}


@pytest.mark.parametrize(
    ("answer", "truth", "accuracy"),
    [
        ([ITEM] * 120 + [{"bbox_2d": [1, 2, 3, 4]}], [ITEM] * 120, 0.0),
        ([ITEM] * 121, [ITEM] * 121, 3.0),
        ([ITEM, None], [ITEM], 0.0),
        (
            [{"bbox_2d": [10, 10, 10, 10], "point_2d": [10, 10]}],
            [{"bbox_2d": [10, 10, 10, 10], "point_2d": [10, 10]}],
            3.0,
        ),
        ([{"bbox_2d": [10, 10, 10**29, 50], "point_2d": [30, 30]}], [ITEM], 1.0),
        ([{"bbox_2d": [10, 10, 50, 50], "point_2d": [10**29, 30]}], [ITEM], 0.0),
        ([{"bbox_2d": ["10", "10", "50", "50"], "point_2d": [30, 30]}], [ITEM], 0.0),
    ],
)
def test_published_accuracy_fails_where_the_published_arithmetic_does(
    answer: list[Any], truth: list[Any], accuracy: float
) -> None:
    text = f"<think></think><answer>{json.dumps(answer)}</answer>"
    assert rewards.compute("vision_reasoner", text, json.dumps(truth), (840, 840))["accuracy"] == accuracy


def test_a_truth_of_the_single_object_kind_earns_no_published_accuracy() -> None:
    text = f"<think></think><answer>{json.dumps([ITEM])}</answer>"
    truth = "<box>(10,10),(50,50)</box><points>(30,30),(20,20)</points>"
    assert rewards.compute("vision_reasoner", text, truth, (840, 840))["accuracy"] == 0.0


@pytest.mark.timeout(30)  # a search that tries every brace to the end takes minutes
@pytest.mark.parametrize("text", ["{" * 1_000_000, "{}" * 500_000, "{" * 500_000 + "}" * 500_000])
@pytest.mark.parametrize("preset", ["seg", "seg_strict", "vision_reasoner", "seg_zero"])
def test_a_million_braces_hold_no_object(preset: str, text: str) -> None:
    truth = SINGLE if preset.startswith("seg_s") or preset == "seg" else json.dumps([ITEM])
    terms = rewards.compute(preset, text, truth, (840, 840))
    assert terms.get("iou", terms.get("accuracy")) == 0.0
