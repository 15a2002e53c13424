"""Labels from a policy's answer to a question."""

from __future__ import annotations

import pytest
from helpers.scripted_policy import ScriptedPolicy
from PIL import Image

from seg_zero.answer import read_names
from seg_zero.errors import InputError
from seg_zero.open_vocabulary.asked import labels_for, naming_spec
from seg_zero.prompting import PromptSpec, build_messages

IMAGE = Image.new("RGB", (20, 20))
QUESTION = "what could a toddler swallow?"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('<think>small</think><answer>["coin", "glass marble"]</answer>', ("coin", "glass marble")),
        ('<answer>```json\n["Coin", "coin"]\n```</answer>', ("Coin",)),
        (
            '<answer>[{"bbox_2d": [1, 2, 3, 4], "label": "button, red"}, {"name": "pin"}]</answer>',
            ("button red", "pin"),
        ),
        ("<answer>coin, glass marble.\n- pin</answer>", ("coin", "glass marble", "pin")),
        ("<answer>['coin']</answer>", ("coin",)),
        ('<answer>[{"bbox_2d": [1, 2, 3, 4], "point_2d": [2, 3]}]</answer>', ()),
        ("<answer>[]</answer>", ()),
        ('<answer>[1, null, [], "", "?!"]</answer>', ()),
        ('<answer>["coin"</answer>', ()),
        ("I see a coin", ()),
        ("", ()),
    ],
)
def test_names_are_read_from_an_answer(text: str, names: tuple[str, ...]) -> None:
    assert read_names(text) == names


def test_the_names_come_before_the_rest_of_the_picture() -> None:
    policy = ScriptedPolicy({QUESTION: '<answer>["coin", "floor"]</answer>'})
    found = labels_for(policy, IMAGE, QUESTION, ["table, floor", "Coin", "wall"])
    assert found.names == ("coin", "floor") and found.labels == ("coin", "floor", "table", "wall")
    assert labels_for(policy, IMAGE, QUESTION).labels == ("coin", "floor", "background")


def test_an_answer_without_names_is_one_line() -> None:
    policy = ScriptedPolicy({QUESTION: "<think>hm</think>\n<answer>[]</answer>"})
    with pytest.raises(InputError, match="the policy named nothing for 'what could a toddler swallow\\?'"):
        labels_for(policy, IMAGE, QUESTION)


def test_the_prompt_asks_for_names_and_holds_the_question() -> None:
    spec = naming_spec(PromptSpec("brief", 112))
    assert spec.image_size == 112
    said = str(build_messages(QUESTION, spec))
    assert QUESTION in said and "JSON list in <answer>" in said and "bbox" not in said
