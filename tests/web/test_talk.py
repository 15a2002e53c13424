"""A conversation's state: what a click refers to, what is drawn and said, and what is refused."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest
from helpers.pictures import encoded
from helpers.scripted_policy import ScriptedPolicy

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.dialogue.session import Dialogue
from seg_zero.errors import InputError
from seg_zero.pipeline import ReasoningSegmenter
from seg_zero.results.result import SegmentationResult
from seg_zero.segmenter import load_segmenter
from seg_zero.serving.open_dialogues import DialogueLimits, Dialogues
from seg_zero.serving.service import Refused
from seg_zero.serving.uploads import Limits
from seg_zero.web import talk as page
from seg_zero.web.asker import Asker
from seg_zero.web.session import Picture
from seg_zero.web.talk import MOST_REGIONS, Talk

SCENE = next(s for s in make_samples(33, 40) if len(s.scene.objects) >= 3).scene
TEXTS = {
    name: write_answer("look", write_solution_multi([item.prompt for item in items]))
    for name, items in {"one": SCENE.objects[:1], "two": SCENE.objects[1:2], "none": []}.items()
}


@pytest.fixture(scope="module")
def asker() -> Asker:
    return Asker(ReasoningSegmenter(ScriptedPolicy(TEXTS), load_segmenter()))


def talk_of(asker: Asker, *questions: str) -> tuple[Talk, Dialogue]:
    """The state after these questions, which are asked one after the other."""
    state = Talk(picture=Picture.read("scene.png", encoded(SCENE.image), Limits()))
    assert state.picture is not None
    dialogue = asker.dialogue(state.picture.open(Limits()).image, "scene.png", 20)
    for question in questions:
        *_, result = asker.ask_round(dialogue, question, [], threading.Event())
        assert isinstance(result, SegmentationResult)
        state.answered(state.picture, dialogue.rounds[-1])
    return state, dialogue


def centre(number: int) -> tuple[float, float]:
    x1, y1, x2, y2 = SCENE.objects[number].prompt.box
    return (x1 + x2) / 2, (y1 + y2) / 2


def test_a_click_refers_to_what_is_there_and_a_second_one_no_longer(asker: Asker) -> None:
    state, dialogue = talk_of(asker, "one", "two", "one")
    assert state.toggle_at(centre(1), dialogue.rounds) and state.references == [2]
    assert state.toggle_at(centre(0), dialogue.rounds) and state.references == [2, 3], "of two rounds the later one"
    assert "refers to round 2 and round 3." in page.refers(state)
    assert state.toggle_at(centre(1), dialogue.rounds) and state.references == [3]
    elsewhere = (float(SCENE.image.width - 1), 0.0)
    assert not any(item.mask[0, -1] for item in dialogue.rounds)
    assert not state.toggle_at(elsewhere, dialogue.rounds)
    region = np.zeros_like(dialogue.rounds[0].mask)
    region[0, -1] = True
    state.add_region(region)
    assert "round 3 and 1 clicked region." in page.refers(state)
    assert state.toggle_at(elsewhere, dialogue.rounds) and not state.regions


def test_rounds_referred_to_are_marked_and_drawn(asker: Asker) -> None:
    state, dialogue = talk_of(asker, "one", "two", "none")
    latest = np.asarray(page.draw(state, dialogue.rounds))
    before = page.thumbnails(state, dialogue.rounds)
    assert [words for _, words in before] == ["1 · one", "2 · two", "3 · none"]
    state.toggle(1, dialogue.rounds)
    after = page.thumbnails(state, dialogue.rounds)
    assert [words for _, words in after] == ["✓ 1 · one", "2 · two", "3 · none"]
    changed = [(np.asarray(a[0]) != np.asarray(b[0])).any() for a, b in zip(before, after, strict=True)]
    assert changed == [True, False, False] and (np.asarray(page.draw(state, dialogue.rounds)) != latest).any()
    told = page.told(state.picture, dialogue.rounds)  # type: ignore[arg-type]
    assert told.index("Round 2 · two · 1 object") < told.index("Round 1 · one · 1 object") and "Round 3" not in told


def test_what_cannot_be_referred_to_is_said_in_one_line(asker: Asker) -> None:
    state, dialogue = talk_of(asker, "one", "none")
    with pytest.raises(InputError, match="round 2 found no object"):
        state.toggle(2, dialogue.rounds)
    empty = np.zeros_like(dialogue.rounds[0].mask)
    with pytest.raises(InputError, match="nothing could be segmented there"):
        state.add_region(empty)
    for _ in range(MOST_REGIONS):
        state.add_region(~empty)
    with pytest.raises(InputError, match="8 regions are clicked already"):
        state.add_region(~empty)
    assert state.references == []


def test_an_undone_round_is_no_reference_and_a_branch_leaves_the_dialogue_as_it_was(asker: Asker) -> None:
    state, dialogue = talk_of(asker, "one", "two")
    state.toggle(1, dialogue.rounds)
    state.toggle(2, dialogue.rounds)
    branch = dialogue.branch()
    branch.undo()
    assert (len(branch.rounds), len(dialogue.rounds)) == (1, 2)
    state.undone(branch.rounds)
    assert state.references == [1] and len(state.small) == 1


def test_the_download_is_what_save_writes(asker: Asker, tmp_path: Any) -> None:
    state, dialogue = talk_of(asker, "one", "two")
    dialogue.save(tmp_path / "talk.json")
    record = json.loads((tmp_path / "talk.json").read_text())
    assert record == json.loads(json.dumps(dialogue.record())) and record["image"] == "scene.png"
    link = page.downloads(state.picture, dialogue)  # type: ignore[arg-type]
    assert 'download="scene_dialogue.json"' in link and "Dialogue (JSON)" in link
    loaded = asker._segmenter.load_dialogue(tmp_path / "talk.json", SCENE.image)
    assert [item.question for item in loaded.rounds] == ["one", "two"]


def test_a_dialogue_that_ended_by_itself_is_said_and_can_be_cleared(asker: Asker) -> None:
    now = [0.0]
    dialogues = Dialogues[Dialogue](DialogueLimits(idle=60.0), lambda: now[0])
    state, dialogue = talk_of(asker, "one")
    assert state.held(dialogues) is None
    state.key = dialogues.begin(dialogue).id
    assert state.held(dialogues).talk is dialogue  # type: ignore[union-attr]
    now[0] = 61.0
    with pytest.raises(Refused, match="after 1 minutes without a question; clear it"):
        state.held(dialogues)
    state.forget(dialogues)
    assert state.held(dialogues) is None and not state.small and len(dialogues) == 0 and state.picture is not None
