"""Rounds of dialogues as the embedded policy is taught them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from seg_zero.answer import parse_answer
from seg_zero.data.synthetic.scenes import COLOURS
from seg_zero.dialogue.data.relations import Thing
from seg_zero.dialogue.memory import Instance
from seg_zero.models.rounds.batches import RoundsBatchMaker, cells_of, copy_loss
from seg_zero.models.rounds.labels import (
    Dialogue,
    RoundsLesson,
    draw_dialogue,
    label_round,
    make_rounds_lesson,
)
from seg_zero.models.rounds.measure import FIRST, asked_in, measure
from seg_zero.models.tiny_policy_data import is_careful, make_lesson
from seg_zero.models.tiny_policy_losses import IGNORED, MIN_OBJECT_SHARE, pixels_by_cell
from seg_zero.models.tiny_policy_measure import HELD_OUT_SEED, box_iou
from seg_zero.models.tiny_policy_model import SPEC
from seg_zero.models.tiny_policy_tokenizer import DIALOGUE_WORDS, VOCAB_SIZE, make_processor, make_tokenizer
from seg_zero.models.train_rounds import Recipe, RoundsTraining
from seg_zero.policy.model_files import TINY_POLICY
from seg_zero.prompting import prompt_text
from seg_zero.rewards.citation import cited_boxes


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def dialogues(count: int) -> list[Dialogue]:
    return [draw_dialogue(np.random.default_rng((9, number))) for number in range(count)]


def box_of(thing: Thing) -> tuple[float, ...]:
    (prompt,) = Instance.of_mask(1, "", thing.mask).prompts
    assert prompt.box is not None
    return tuple(round(value) for value in prompt.box)


def test_single_questions_have_no_token_of_dialogues() -> None:
    tokenizer = make_tokenizer(words=DIALOGUE_WORDS)
    for index in range(40):
        lesson = make_lesson(5, index, 4)
        for question, label in zip(lesson.questions, lesson.labels, strict=True):
            words = f"user\n{prompt_text(question.text, SPEC)}<|im_end|>\n<|im_start|>assistant\n{label.text}<|im_end|>"
            assert max(tokenizer(words)["input_ids"]) < VOCAB_SIZE


def test_a_prompt_of_the_sixth_round_has_room_for_an_answer() -> None:
    tokenizer, rng = make_tokenizer(words=DIALOGUE_WORDS), np.random.default_rng(0)
    sixth = [label_round(item, 5, rng, carry="all", careful=0.5) for item in dialogues(30) if len(item.rounds) == 6]
    lengths = [len(tokenizer(prompt_text(one.question, SPEC, one.context))["input_ids"]) for one in sixth]
    assert sixth and max(lengths) < 260
    one = sixth[0]
    text = prompt_text(one.question, SPEC, one.context) + one.text
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_careful_label_cites_what_is_referred_to_and_marks_the_target() -> None:
    rng = np.random.default_rng(0)
    cited = 0
    for item in dialogues(12):
        for number, one in enumerate(item.rounds):
            label = label_round(item, number, rng, carry="all", careful=1.0)
            answer = parse_answer(label.text)
            assert is_careful(label.text) and answer.problem is None
            assert box_iou(answer.objects, Instance.of_mask(1, "", one.truth()).prompts) == pytest.approx(1.0)
            references = [item.things[place] for place in label.path[:-1]]
            assert len(references) == len(one.asked.references)
            boxes = cited_boxes(answer.thinking)
            assert set(boxes) <= {box_of(thing) for thing in references}  # one that found nothing has no box
            assert all(str([round(v) for v in box]).replace(" ", "") in label.context for box in boxes)
            cited += len(boxes)
    assert cited > 20


def test_a_hasty_label_never_begins_in_the_careful_manner() -> None:
    rng = np.random.default_rng(0)
    for item in dialogues(6):
        label = label_round(item, 1, rng, carry="all", careful=0.0)
        assert not is_careful(label.text) and len(label.path) == 1
        assert parse_answer(label.text).problem is None


def test_what_a_question_refers_to_reenters_as_it_is_or_not_at_all() -> None:
    rng = np.random.default_rng(0)
    empty = other = 0
    for item in dialogues(40):
        for number, one in enumerate(item.rounds):
            label = label_round(item, number, rng, carry="references", careful=1.0)
            for reference in one.asked.references:
                true = str(list(box_of(item.things[item.targets[reference - 1]]))).replace(" ", "")
                there = label.context.count(true) > 0
                empty += not there
                assert there or "nothing was found" in label.context
            everything = label_round(item, number, rng, carry="all", careful=1.0).context
            other += sum(
                str(list(box_of(item.things[item.targets[place]]))).replace(" ", "") not in everything
                for place in range(number)
                if place + 1 not in one.asked.references
            )
    assert empty and other


def test_lessons_are_repeatable() -> None:
    first, again = (make_rounds_lesson((3, 0), 4, carry="all", careful=0.5) for _ in range(2))
    assert first.labels == again.labels and len(first.labels) == 4
    assert first.labels != make_rounds_lesson((3, 1), 4, carry="all", careful=0.5).labels


def test_a_batch_looks_at_what_is_referred_to_and_then_at_the_target() -> None:
    processor = make_processor(make_tokenizer(words=DIALOGUE_WORDS))
    item = next(one for one in dialogues(40) if any(len(r.asked.references) == 2 for r in one.rounds))
    number = next(n for n, r in enumerate(item.rounds) if len(r.asked.references) == 2)
    label = label_round(item, number, np.random.default_rng(0), carry="all", careful=1.0)
    made = RoundsBatchMaker(processor)([RoundsLesson(item.image, item.things, (label,))])
    taught = made.targets[0] != IGNORED
    assert processor.tokenizer.decode(made.targets[0][taught]) == label.text + "<|im_end|>"
    shown = pixels_by_cell(np.stack([item.things[place].mask for place in label.path]))
    cells = torch.from_numpy(shown > MIN_OBJECT_SHARE * shown.sum(axis=1, keepdims=True))
    words = [processor.tokenizer.decode(token) for token in made.segments[0]]
    first = len(words) - 1 - words[::-1].index("<think>")
    second = words.index(" and instance", first)
    third = words.index(" the", words.index(" then", first))
    for place, seen in (
        *((first, cells[0]), (second - 1, cells[0]), (second, cells[1])),
        *((third - 1, cells[1]), (third, cells[2])),
    ):
        assert torch.equal(made.looked_at[0, place], seen)
    copies = (made.copied[0] >= 0).nonzero()[:, 0]
    assert len(copies) == 4 * len(cited_boxes(parse_answer(label.text).thinking)) > 0
    assert torch.equal(made.segments[0, made.copied[0, copies]], made.targets[0, copies])


def test_each_visual_token_says_which_whole_and_which_part_it_shows() -> None:
    item = next(one for one in dialogues(40) if any(thing.noun == "core" for thing in one.things))
    wholes, parts = cells_of([item.things])
    core = next(thing for thing in item.things if thing.noun == "core")
    whole = item.things[core.part_of or 0]
    cell = int(pixels_by_cell(core.mask[None])[0].argmax())
    assert wholes.present[0, cell] and parts.present[0, cell]
    assert parts.box[0, cell].tolist() == list(core.box) and parts.shape[0, cell] == 0
    assert wholes.box[0, cell].tolist() == list(whole.box)
    assert list(COLOURS)[int(parts.colour[0, cell])] == core.words[0] != whole.words[0]


def test_the_loss_of_copying_falls_with_attention_on_the_source() -> None:
    copied = torch.full((1, 4), -1)
    copied[0, 3] = 1
    even = torch.full((1, 4, 6), 1 / 6)
    sharp = torch.zeros(1, 4, 6)
    sharp[0, 3, 3] = 1.0  # two tokens of the prefix come first
    assert float(copy_loss(sharp, copied, 2)) == pytest.approx(0.0, abs=1e-3)
    assert float(copy_loss(even, copied, 2)) == pytest.approx(np.log(6), abs=1e-2)
    assert float(copy_loss(even, torch.full((1, 4), -1), 2)) == 0.0


def test_the_tower_is_taught_alone_and_then_rounds_and_single_questions() -> None:
    torch.set_num_threads(1)
    training = RoundsTraining(
        Recipe(str(TINY_POLICY), steps=3, vision_steps=1, vision_images=2, images=1, questions=1, dialogues=1, rounds=1)
    )
    before = [weight.clone() for weight in training.model.parameters()]
    assert "part_colour" in training.step(training.lessons[0])
    names = [name for name, _ in training.model.named_parameters()]
    moved = [not torch.equal(a, b) for a, b in zip(before, training.model.parameters(), strict=True)]
    assert {name for name, one in zip(names, moved, strict=True) if one} <= {n for n in names if ".visual." in n}
    assert any(moved)
    for number in (1, 2):
        assert {"rounds_references", "single"} <= set(training.step(training.lessons[number]))
    assert training.done == 3
    moved = [not torch.equal(a, b) for a, b in zip(before, training.model.parameters(), strict=True)]
    assert np.mean(moved) > 0.9


def test_held_out_rounds_are_asked_with_true_histories_and_the_embedded_policy_knows_some() -> None:
    torch.set_num_threads(1)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(TINY_POLICY, dtype=torch.float32).eval()
    dialogue = draw_dialogue(np.random.default_rng((HELD_OUT_SEED, 0)))
    rounds = asked_in(dialogue)
    assert [one.relation == FIRST for one in rounds] == [True] + [False] * (len(rounds) - 1)
    assert rounds[0].context == "" and all("instance 1" in one.context.lower() for one in rounds[1:])
    many = [one for i in range(6) for one in asked_in(draw_dialogue(np.random.default_rng((HELD_OUT_SEED, i))))]
    careful, share = measure(model, Qwen2_5_VLProcessor.from_pretrained(TINY_POLICY), many, "<think>I see")
    assert share == 1.0
    assert np.mean(careful[FIRST]) > 0.5
    assert np.mean([iou for name, some in careful.items() if name != FIRST for iou in some]) > 0.25
