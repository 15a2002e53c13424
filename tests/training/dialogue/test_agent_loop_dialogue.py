"""A conversation played against a policy whose answers are given and the embedded SAM2, without Ray."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig
from verl.experimental.agent_loop.agent_loop import DictConfigWrap
from verl.utils import hf_processor, hf_tokenizer
from verl.workers.rollout.replica import TokenOutput

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.dialogue.data.records import TrueRound
from seg_zero.dialogue.data.synthetic import make_dialogues
from seg_zero.dialogue.references import read_question
from seg_zero.masks import mask_to_prompt_object
from seg_zero.policy.model_files import TINY_POLICY
from seg_zero.segmenter import Segmenter, load_segmenter
from seg_zero.training.dialogue import agent_loop
from seg_zero.training.dialogue.agent_loop import (
    EACH_ROUND,
    DialogueAgentLoop,
    PromptTooLong,
    check_placeholders,
)
from seg_zero.training.dialogue.scripts import Script
from seg_zero.training.launch.config import load_config
from seg_zero.training.rollout.round_scorer import RoundQuestion, RoundScore, RoundScorer
from seg_zero.training.trainer import validation
from seg_zero.training.trainer.dialogue_dataset import DialogueDataset

RUN = ["policy=tiny", "data=dialogues", "hardware=cpu_2core", "schedule=tiny", "dialogue=conversations"]
TOKENIZER, PROCESSOR = hf_tokenizer(str(TINY_POLICY)), hf_processor(str(TINY_POLICY))


class Scorers:
    """The actors' work in this process."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.scorer, self.asked = RoundScorer(segmenter, 4), list[RoundQuestion]()

    async def score(self, question: RoundQuestion) -> RoundScore:
        self.asked.append(question)
        return self.scorer.scores([question])[0]


class Server:
    """Answers in order; keeps prompts, seeds and pictures."""

    def __init__(self, texts: list[str]) -> None:
        self.texts, self.prompts, self.seeds, self.images = list(texts), list[str](), list[int](), list[Any]()

    async def generate(self, *, prompt_ids: list[int], sampling_params: dict[str, Any], **other: Any) -> TokenOutput:
        self.prompts.append(TOKENIZER.decode(prompt_ids, skip_special_tokens=True))
        self.seeds.append(sampling_params.get("seed", -1))
        self.images.append(other["image_data"])
        ids = TOKENIZER(self.texts[len(self.prompts) - 1])["input_ids"]
        return TokenOutput(token_ids=ids, log_probs=[-0.5] * len(ids))


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter(device="cpu")


@pytest.fixture
def scorers(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> Scorers:
    scorers = Scorers(segmenter)
    monkeypatch.setattr(agent_loop, "round_scorers", lambda _settings: scorers)
    return scorers


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Script:
    """A dialogue of three rounds, of which the last refers to the first two."""
    folder = tmp_path_factory.mktemp("dialogues")
    item = next(one for one in make_dialogues(folder, 12, 20, rounds=4) if len(one.rounds) >= 3)
    third = TrueRound(read_question("[REF:1,2] the one between them"), item.rounds[2].mask)
    return Script(str(folder / "talks.jsonl"), 4, replace(item, rounds=(*item.rounds[:2], third)))


def true_answer(script: Script, number: int) -> str:
    item = mask_to_prompt_object(script.dialogue.rounds[number - 1].truth())
    return write_answer("look", write_solution_multi([item]))


@cache
def config_of(*overrides: str) -> DictConfig:
    return load_config([*RUN, *overrides])


def play(
    script: Script, texts: list[str], *overrides: str, validating: bool = False, **row: Any
) -> tuple[list[dict[str, Any]], Server]:
    """What a conversation puts into verl's queue, as verl's worker does."""
    config, server = config_of(*overrides), Server(texts)

    async def run() -> Any:
        loop = DialogueAgentLoop(
            trainer_config=DictConfigWrap(config),
            server_manager=server,
            tokenizer=TOKENIZER,
            processor=PROCESSOR,
            dataset_cls=DialogueDataset,
            data_config=DictConfigWrap(config.data),
            hf_model_type="qwen2_5_vl",
        )
        info = {"script": script, "use": "training", "validating": validating, "held_out": validating}
        numbers = {"index": 3, "global_steps": 7, "session_id": 1, **row}
        return await loop.run({"temperature": 1.0, "logprobs": True}, extra_info=info, **numbers)

    outputs = asyncio.run(run())
    for output in outputs[:-1]:
        output.reward_score = outputs[-1].reward_score
        output.extra_fields["reward_extra_info"] = outputs[-1].extra_fields["reward_extra_info"]
    return [output.as_dict() for output in outputs], server


def results(fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one["extra_fields"]["reward_extra_info"] for one in fields]


def test_every_round_is_a_sample_with_its_own_score(script: Script, scorers: Scorers) -> None:
    texts = [true_answer(script, 1), "no answer", true_answer(script, 3)]
    fields, server = play(script, texts)
    scores = [one["score"] for one in results(fields)]
    assert scores[0] > 6 and scores[2] > 5 and scores[1] < 1
    assert [one["round"] for one in results(fields)] == ["1", "2", "3"]
    for one, score, text in zip(fields, scores, texts, strict=True):
        assert one["rm_scores"][-1] == pytest.approx(score) and not one["rm_scores"][:-1].any()
        assert one["response_mask"].all() and len(one["response_mask"]) == len(one["responses"])
        assert TOKENIZER.decode(one["responses"]) == text
    assert len(set(server.seeds)) == 3


def test_answers_re_enter_and_unreadable_ones_as_nothing(script: Script, scorers: Scorers) -> None:
    _, server = play(script, [true_answer(script, 1), "no answer", true_answer(script, 3)])
    first, second, third = server.prompts
    assert "Earlier answers" not in first
    assert "instance 1" in second and "bbox_2d" in second and "instance 2" not in second
    assert "nothing was found" in third and "The question refers to instance 1 and instance 2." in third
    assert [question.instances for question in scorers.asked] == [(), (), ()]


def test_what_re_enters_is_the_mask_and_not_the_text(script: Script, scorers: Scorers) -> None:
    """A box in the empty corner leaves SAM2's mask of it, or none; the true box does not come back."""
    wrong = write_answer("look", '[{"bbox_2d":[0,0,9,9],"point_2d":[4,4]}]')
    _, server = play(script, [wrong, "x", "x"])
    true = write_solution_multi([mask_to_prompt_object(script.dialogue.rounds[0].truth())])
    assert true not in server.prompts[1]


def test_with_a_teacher_the_true_masks_re_enter(script: Script, scorers: Scorers) -> None:
    _, server = play(script, ["x", "x", "x"], "dialogue.teacher_history=1")
    for number in (1, 2):
        true = mask_to_prompt_object(script.dialogue.rounds[number - 1].truth())
        assert write_solution_multi([true]) in server.prompts[2]


def test_the_teachers_draws_are_those_of_the_group(script: Script, scorers: Scorers) -> None:
    told = [
        [
            "nothing was found" in prompt
            for prompt in play(script, ["x"] * 3, "dialogue.teacher_history=0.5", **row)[1].prompts
        ]
        for row in ({"session_id": 0}, {"session_id": 5})
    ]
    assert told[0] == told[1]
    steps = [play(script, ["x"] * 3, "dialogue.teacher_history=0.5", global_steps=step)[1].prompts for step in range(8)]
    assert len({tuple("nothing was found" in prompt for prompt in prompts) for prompts in steps}) > 1


def test_a_history_that_is_too_long_ends_the_conversation(script: Script, scorers: Scorers) -> None:
    fields, server = play(script, ["x", "x", "x"], "data.max_prompt_length=60")
    assert len(fields) == len(server.prompts) == 1
    assert results(fields)[0]["cut_short"] == 1.0
    with pytest.raises(PromptTooLong, match=r"longer than data\.max_prompt_length=20"):
        play(script, ["x", "x", "x"], "data.max_prompt_length=20")


def test_crops_are_images_of_the_prompt(script: Script, scorers: Scorers) -> None:
    texts = [true_answer(script, 1), true_answer(script, 2), "x"]
    fields, server = play(script, texts, "dialogue.references=crop")
    assert [len(images) for images in server.images] == [1, 1 + len(script.dialogue.rounds[1].asked.references), 3]
    assert len(fields[2]["multi_modal_data"]["images"]) == 3


def test_sam2s_part_of_the_way_mask_sees_the_history(script: Script, scorers: Scorers) -> None:
    play(script, [true_answer(script, 1), "x", "x"], "dialogue.references=mask")
    assert [len(question.instances) for question in scorers.asked] == [0, 1, 2]
    low_res = scorers.asked[1].instances[0].low_res
    assert low_res is not None and low_res.dtype == np.float32


def test_validation_gets_every_round_although_verl_looks_at_the_last(script: Script, scorers: Scorers) -> None:
    texts = [true_answer(script, 1), "no answer", true_answer(script, 3)]
    fields, _ = play(script, texts, validating=True)
    last = results(fields)[-1]
    each = json.loads(last[EACH_ROUND])
    assert last["score"] == pytest.approx(np.mean([one["score"] for one in each]))
    infos = {name: [value] * 3 for name, value in last.items()} | {"uid": [f"u_0_{n}" for n in (2, 0, 1)]}
    own = validation.each_round(infos)
    assert own["round"] == ["3", "1", "2"]
    samples = validation.read_samples([texts[2], texts[0], texts[1]], own)
    assert [(one.row, one.round, one.text) for one in samples] == [(4, n, texts[n - 1]) for n in (1, 2, 3)]
    metrics = validation.summarise(samples)
    assert metrics["validation/round_1/gIoU"] > 0.8 and metrics["validation/round_2/gIoU"] == 0.0
    assert metrics["validation/later_rounds/gIoU"] == pytest.approx(metrics["validation/round_3/gIoU"] / 2)
    assert metrics["validation/later_rounds/rows"] == 2


@pytest.mark.parametrize(("ids", "images"), [([1, 9, 9, 2], 1), ([9, 1, 9], 2), ([1, 2], 0)])
def test_as_many_placeholders_as_images(ids: list[int], images: int) -> None:
    check_placeholders(ids, 9, images)
    with pytest.raises(ValueError, match=f"the prompt has {images} image placeholders for {images + 1} images"):
        check_placeholders(ids, 9, images + 1)


def test_a_picture_that_is_gone_costs_its_round_alone(script: Script, segmenter: Segmenter, tmp_path: Path) -> None:
    asked, truth = read_question("x"), script.dialogue.rounds[0].mask
    item = mask_to_prompt_object(script.dialogue.rounds[0].truth())
    good = RoundQuestion(str(script.dialogue.image), 0, truth, (item,), asked, "text")
    scorer = RoundScorer(segmenter, 4)
    gone, found, empty = scorer.scores(
        [replace(good, image=str(tmp_path / "gone.png")), good, replace(good, objects=())]
    )
    assert gone.masks is None and gone.score.problem is not None and "gone.png" in gone.score.problem
    assert not gone.instance(1, "x", (112, 112)).found
    assert found.score.iou is not None and found.score.iou > 0.8 and scorer.images_embedded == 1
    assert empty.score.iou == 0.0 and not empty.instance(1, "x", (112, 112)).found
    assert found.low_res is None
