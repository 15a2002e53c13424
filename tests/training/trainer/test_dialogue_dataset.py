"""Dialogues as rows: rounds with their history, and whole conversations."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from verl.utils import hf_processor

from seg_zero.answer import parse_solution, write_answer, write_solution_multi
from seg_zero.dialogue.data.records import DialogueRecord, read_dialogues, write_dialogues
from seg_zero.dialogue.data.synthetic import make_dialogues
from seg_zero.dialogue.memory import Instance
from seg_zero.dialogue.renderers import renderer_for
from seg_zero.errors import InputError
from seg_zero.masks import encode_mask, mask_to_prompt_object
from seg_zero.policy.model_files import TINY_POLICY
from seg_zero.prompting import build_messages, resize_for_policy
from seg_zero.segmenter import load_segmenter
from seg_zero.training.launch.config import load_config
from seg_zero.training.rollout import reward
from seg_zero.training.rollout.replay import reward_metrics
from seg_zero.training.rollout.round_scorer import RoundQuestion, RoundScore, RoundScorer
from seg_zero.training.trainer import validation
from seg_zero.training.trainer.dialogue_dataset import DialogueDataset

PROCESSOR = hf_processor(str(TINY_POLICY))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dialogues")
    path = folder / "talks.jsonl"
    write_dialogues(path, make_dialogues(folder, 12, 6, rounds=4, parts=True))
    return path


@pytest.fixture(scope="module")
def records(path: Path) -> list[DialogueRecord]:
    return list(read_dialogues(path).usable())


def dataset(path: Path, rows: str, *overrides: str) -> DialogueDataset:
    run = ["policy=tiny", "data=dialogues", "hardware=cpu_2core", "schedule=tiny", f"dialogue={rows}"]
    config = load_config([*run, f"data.train_files={path}", f"data.val_files={path}.val", *overrides])
    return DialogueDataset(str(path), None, config.data, PROCESSOR)


def corner() -> dict[str, Any]:
    mask = np.zeros((112, 112), dtype=bool)
    mask[2:12, 3:13] = True
    return encode_mask(mask)


@pytest.fixture
def answers(records: list[DialogueRecord], tmp_path: Path) -> Path:
    """A policy that answered every round with one corner."""
    lines = [
        {
            "id": item.id,
            "rounds": {"predicted": [{"question": r.asked.question, "mask": corner()} for r in item.rounds]},
        }
        for item in records
    ]
    (tmp_path / "dialogues.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def text_of(row: dict[str, Any]) -> str:
    return str(row["raw_prompt"][0]["content"][-1]["text"])


def test_a_round_is_a_row_with_the_prompt_of_inference(path: Path, records: list[DialogueRecord]) -> None:
    rows = dataset(path, "rounds")
    assert len(rows) == sum(len(item.rounds) for item in records)
    item = records[0]
    one, earlier = item.rounds[1], Instance.of_mask(1, item.rounds[0].asked.question, item.rounds[0].truth())
    made = renderer_for("text", "all").render(item.picture(), [earlier], one.asked, rows.spec)
    image = resize_for_policy(made.image, rows.spec, "training")
    wanted = build_messages(one.asked.question, rows.spec, image, context=made.context)
    row = rows[1]
    assert text_of(row) == wanted[0]["content"][-1]["text"]
    assert np.array_equal(row["raw_prompt"][0]["content"][0]["image"], image)
    truth = mask_to_prompt_object(one.truth())
    assert parse_solution(row["reward_model"]["ground_truth"]) == parse_solution(write_solution_multi([truth]))
    info = row["extra_info"]
    assert (info["round"], info["row"], info["source"], info["index"]) == (2, 0, str(path), 1)
    assert info["referred"] == [list(earlier.prompts[0].box)] if one.asked.references else info["referred"] == []  # type: ignore[arg-type]


@pytest.mark.parametrize("held_out", [False, True])
def test_the_reward_of_a_round_asks_sam2_about_its_picture(
    path: Path, records: list[DialogueRecord], held_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = RoundScorer(load_segmenter(device="cpu"), 2)

    class Scorers:
        async def score(self, question: RoundQuestion) -> RoundScore:
            return scorer.scores([question])[0]

    monkeypatch.setattr(reward, "round_scorers", lambda _settings: Scorers())
    rows = dataset(path, "rounds")
    rows.held_out = held_out
    row, truth = rows[1], mask_to_prompt_object(records[0].rounds[1].truth())
    text = write_answer("look", write_solution_multi([truth]))
    terms = {"mask": {"function": "seg_zero.rewards.masks.mask", "weight": 1.0, "tiers": None}}
    about = (row["data_source"], text, row["reward_model"]["ground_truth"], row["extra_info"], terms, {})
    score = asyncio.run(reward.compute_score(*about))
    assert score["mask_iou"] > 0.7 and score["mask"] == pytest.approx(score["mask_iou"])
    assert score["round"] == "2" and score["failures"] == 0
    if held_out:
        (sample,) = validation.read_samples([text], {reward.HELD_OUT_SAMPLE: [score[reward.HELD_OUT_SAMPLE]]})
        assert (sample.row, sample.round) == (0, 2) and sample.mask is not None
        assert validation.draw_samples([sample], rows.spec).width > 200


def test_own_answers_take_the_place_of_true_ones(path: Path, records: list[DialogueRecord], answers: Path) -> None:
    rows = dataset(path, "rounds", "dialogue.teacher_history=0", f"dialogue.predictions={answers}")
    own, true = '"bbox_2d":[3,2,12,11]', write_solution_multi([mask_to_prompt_object(records[0].rounds[0].truth())])
    assert own in text_of(rows[1]) and true not in text_of(rows[1])
    rows.use = "answering"
    assert true in text_of(rows[1])  # held-out rows have true history


def test_the_teachers_rows_are_drawn(path: Path, answers: Path) -> None:
    torch.manual_seed(0)
    rows = dataset(path, "rounds", "dialogue.teacher_history=0.75", f"dialogue.predictions={answers}")
    own = [bool('"bbox_2d":[3,2,12,11]' in text_of(rows[1])) for _ in range(200)]
    assert 0.15 < np.mean(own) < 0.35


def test_answers_to_other_dialogues_are_refused(path: Path, answers: Path) -> None:
    file = answers / "dialogues.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(InputError, match="has no answer to round 1 of dialogue"):
        dataset(path, "rounds", f"dialogue.predictions={answers}")


def test_a_conversation_is_a_row_and_prompts_are_made_as_it_is_played(
    path: Path, records: list[DialogueRecord]
) -> None:
    rows = dataset(path, "conversations")
    assert len(rows) == len(records)
    info = rows[2]["extra_info"]
    assert info["script"].dialogue.id == records[2].id and info["script"].dialogue.things == ()
    assert not info["validating"]
    rows.use = "answering"
    assert rows[2]["extra_info"]["validating"]


def test_dialogues_end_before_a_prompt_that_is_too_long(
    path: Path, records: list[DialogueRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = dataset(path, "conversations")
    assert [len(one.dialogue.rounds) for one in whole.scripts] == [len(item.rounds) for item in records]
    cut = dataset(path, "conversations", "data.max_prompt_length=70")
    lengths = [len(one.dialogue.rounds) for one in cut.scripts]
    assert 0 < min(lengths) < 4 and sum(lengths) < sum(len(item.rounds) for item in records)
    assert "rounds of" in (said := capsys.readouterr().out) and "a prompt exceeds 70 tokens" in said
    with pytest.raises(InputError, match=r"no question of .* fits data\.max_prompt_length=17"):
        dataset(path, "conversations", "data.max_prompt_length=17")


@pytest.mark.parametrize("references", ["text", "crop", "marks"])
def test_lengths_are_those_of_the_processor(path: Path, references: str) -> None:
    rows = dataset(path, "rounds", f"dialogue.references={references}", "data.max_prompt_length=400")
    from seg_zero.data.prompt_lengths import PromptLengths

    lengths = PromptLengths(PROCESSOR, rows.spec, {"min_pixels": 784, "max_pixels": 12544})
    script = rows.scripts[0]
    for number in range(1, len(script.dialogue.rounds) + 1):
        prompt = rows._prompt(script, number, rows._true_history(script, number))
        messages = prompt.messages(rows.spec, "answering")
        images = [part["image"] for part in messages[0]["content"] if part["type"] == "image"]
        text = PROCESSOR.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids = PROCESSOR(text=[text], images=images)["input_ids"][0]
        counted = lengths.of_round(prompt.question, prompt.rendered.context, len(prompt.rendered.pictures))
        assert counted == len(ids)


def test_reward_curves_by_round() -> None:
    terms = [{"score": 1.0, "round": "1"}, {"score": 3.0, "round": "1"}, {"score": 4.0, "round": "2"}]
    metrics = reward_metrics([*terms, {"score": 4.0, "round": "2"}], ["a", "a", "a", "a"])
    assert (metrics["dialogue/round_1/score"], metrics["dialogue/round_2/score"]) == (2.0, 4.0)
    assert metrics["dialogue/round_1/answers"] == 2 and metrics["reward/score/mean"] == 3.0
    assert metrics["reward/flat_groups"] == 0.5  # round 2 of the script
    assert "reward/round/mean" not in metrics and "dialogue/round_1/round" not in metrics
