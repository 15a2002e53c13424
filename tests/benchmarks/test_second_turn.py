"""The benchmark of corrections: what is measured of a second turn, and what a start with corrections is taught."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import refinement
from benchmarks.correction_start import lessons
from benchmarks.refinement import ARMS, TRUE, WRONG, curves, judge, other_thing, tables, write_sets
from seg_zero.answer import parse_answer, write_answer, write_solution_multi
from seg_zero.data.synthetic.scenes import KINDS, Sample, make_samples
from seg_zero.dialogue.data.records import read_dialogues
from seg_zero.dialogue.turns import correction_of
from seg_zero.pipeline import ReasoningSegmenter
from seg_zero.policy import GREEDY, Policy, Reply, Request, Sampling
from seg_zero.prompting import PromptSpec

SAMPLES = [s for s in make_samples(41, 60, kinds=("attr",)) if len(s.scene.objects) > len(s.question.targets)][:4]
NOTHING = "no answer at all"


def says(sample: Sample, *places: int) -> str:
    return write_answer("look", write_solution_multi([sample.scene.objects[place].prompt for place in places]))


def right(sample: Sample) -> str:
    return says(sample, *sample.question.targets)


def wrong(sample: Sample) -> str:
    return says(sample, next(i for i in range(len(sample.scene.objects)) if i not in sample.question.targets))


class TwoAnswers(Policy):
    """Gives each question its first answer, and its second one when asked to correct; 10 and 30 tokens."""

    spec = PromptSpec("brief", 112)
    in_flight = 4

    def __init__(self, first: Iterable[str], second: Iterable[str]) -> None:
        self._texts = dict[str, tuple[str, int]]()
        for sample, one, two in zip(SAMPLES, first, second, strict=True):
            self._texts |= {sample.question.text: (one, 10), correction_of(sample.question.text, 1).question: (two, 30)}

    def stream(self, requests: Iterable[Request | None], sampling: Sampling = GREEDY) -> Iterator[Reply]:
        for request in requests:
            assert request is not None
            text, tokens = self._texts[request.question]
            yield Reply(request.key, (text,), tokens, False)


def judged(sam2: Any, first: Iterable[str], second: Iterable[str]) -> dict[str, Any]:
    return judge(TwoAnswers(first, second), sam2, SAMPLES)


def test_questions_have_texts_of_their_own() -> None:
    assert len({sample.question.text for sample in SAMPLES}) == len(SAMPLES) == 4


def test_a_correction_is_measured_and_what_it_costs(sam2: Any) -> None:
    found = judged(sam2, map(wrong, SAMPLES), map(right, SAMPLES))
    assert max(found["turn_1"]) < 0.1 and min(found["turn_2"]) > 0.8
    assert found["copied"] == [0] * 4 and found["texts"][0] == [wrong(SAMPLES[0]), right(SAMPLES[0])]
    assert [found["cost"][turns]["tokens"] for turns in ("1", "2")] == [10, 40]
    assert min(found["after"][TRUE]) > 0.8 and len(found["after"][WRONG]) == 4


def test_a_copy_and_an_unreadable_correction_leave_the_answer(sam2: Any) -> None:
    texts = [right(sample) for sample in SAMPLES]
    found = judged(sam2, texts, [*texts[:2], NOTHING, NOTHING])
    assert found["turn_1"] == found["turn_2"] and found["copied"] == [1, 1, 0, 0]
    assert found["second"] == [*found["turn_2"][:2], 0, 0]
    assert found["after"][TRUE][2:] == [0, 0]


def test_another_thing_was_not_asked_for() -> None:
    for number, sample in enumerate(SAMPLES):
        mask = other_thing(sample, number)
        assert mask is not None and mask.any() and not (mask & sample.mask).any()
    plural = next(
        s for s in make_samples(41, 200, kinds=("plural",)) if len(s.question.targets) == len(s.scene.objects)
    )
    assert other_thing(plural, 0) is None


def test_sets_hold_a_question_and_its_correction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refinement, "TRAINING", 3)
    monkeypatch.setattr(refinement, "HELD_OUT", 2)
    write_sets(tmp_path)
    sets = {name: read_dialogues(tmp_path / f"{name}.jsonl").usable() for name in ("train", "held_out")}
    assert [len(some) for some in sets.values()] == [3, 2]
    for one in [*sets["train"], *sets["held_out"]]:
        first, second = one.rounds
        assert second.asked == correction_of(first.asked.question, 1)
    before = (tmp_path / "train.jsonl").stat().st_mtime_ns
    write_sets(tmp_path)
    assert (tmp_path / "train.jsonl").stat().st_mtime_ns == before


def test_arms_sample_as_many_answers_a_step() -> None:
    sizes = [dict(one.split("=") for one in arm.overrides) for arm in ARMS]
    turns = [int(size.get("dialogue.max_rounds", 2)) for size in sizes]
    assert len({int(size["data.train_batch_size"]) * n for size, n in zip(sizes, turns, strict=True)}) == 1


def result(arm: str, seed: int, second: float) -> dict[str, Any]:
    metrics = [{f"dialogue/round_{turn}/{what}": 0.5 for turn in (1, 2) for what in ("box_iou", "score")}]
    return {
        **{"arm": arm, "seed": seed, "seconds": 90.0, "copied": [1.0, 0.0] * 5},
        **{"turn_1": [0.5] * 10, "turn_2": [second] * 9 + [0.0], "second": [second] * 8 + [0.0] * 2},
        **{"after": {TRUE: [0.9], WRONG: [0.4]}, "kinds": [*KINDS, *KINDS[:3], "none"]},
        "cost": {"1": {"tokens": 20.0, "seconds": 0.01}, "2": {"tokens": 45.0, "seconds": 0.03}},
        "curves": curves(metrics if seed else []),
    }


def test_tables_count_what_got_better_and_worse() -> None:
    lines = tables([result("start", 0, 0.5), result("two_turns", 2, 0.7)]).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith(("| start", "| two"))]
    turns, seen, kinds, cost = rows[:2], rows[2:4], rows[4:6], rows[6:]
    assert turns[0][:5] == ["start", "", "", "0.500", "0.450"] and turns[0][6:] == ["0", "1", "0.50"]
    assert turns[1][:5] == ["two_turns", "2", "1.5", "0.500", "0.630"] and turns[1][6:8] == ["9", "1"]
    assert turns[1][5].startswith("+0.130 (")
    assert seen[1] == ["two_turns", "2", "", "0.500 → 0.560", "0.900", "0.400"], "no first answer is right"
    assert kinds[1] == ["two_turns", "2", *["0.50 → 0.70"] * 2, "0.50 → 0.35", *["0.50 → 0.70"] * 2, "0.50 → 0.35"]
    assert cost[0][4:] == [""] * 2 and cost[1] == ["two_turns", "2", "20 → 45", "10 → 30", "0.50", "0.50"]


def test_a_start_is_taught_its_own_answers_and_their_corrections(sam2: Any) -> None:
    policy = TwoAnswers([wrong(SAMPLES[0]), *map(right, SAMPLES[1:])], [NOTHING] * 4)
    images, questions = [s.scene.image for s in SAMPLES], [s.question.text for s in SAMPLES]
    answers = ReasoningSegmenter(policy, sam2).batch(images, questions)
    requests, responses = lessons(SAMPLES, answers)
    assert [one.question for one in requests[:4]] == questions and responses[0] == wrong(SAMPLES[0])
    for sample, request, response in zip(SAMPLES, requests[4:], responses[4:], strict=True):
        assert request.question == correction_of(sample.question.text, 1).question
        assert "Numbered outlines" in request.context and request.image.size == sample.scene.image.size
        assert (np.asarray(request.image) != np.asarray(sample.scene.image)).any()
        assert parse_answer(response).thinking.startswith("I see")
