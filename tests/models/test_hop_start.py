"""The start for questions of several hops: what it is taught, how it begins, and that a stopped training goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from seg_zero.answer import parse_answer, write_answer, write_solution_multi
from seg_zero.data.synthetic.hop_steps import Step, object_of, read_steps, relation_words
from seg_zero.data.synthetic.hops import RELATIONS, SHAPES_IN_SCENE, draw_chain, follow
from seg_zero.errors import InputError
from seg_zero.models.hop_start.batches import HopBatchMaker
from seg_zero.models.hop_start.labels import (
    ANY_HOPS,
    ANY_SHAPE,
    CHAINED,
    CHAINED_OPEN,
    FREE,
    LONG,
    MIXES,
    PASSED,
    SHORT,
    SILENT,
    WHOLE,
    HopLabel,
    HopLesson,
    descriptions,
    label_chain,
    make_lesson,
    pool_scene,
)
from seg_zero.models.hop_start.model import make_hop_processor, make_hop_tokenizer
from seg_zero.models.resumable import PROGRESS, run
from seg_zero.models.tiny_policy_forward import PackedForward
from seg_zero.models.tiny_policy_losses import IGNORED, Barred, imitation_loss
from seg_zero.models.tiny_policy_model import SPEC, reword
from seg_zero.models.train_hop_start import HopTraining, Recipe
from seg_zero.policy.model_files import TINY_POLICY
from seg_zero.prompting import build_messages

SMALL = Recipe(steps=3, images=2, questions=1, pool=2)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def labelled(hops: int, count: int, answered: bool = False) -> list[tuple[int, HopLabel]]:
    """Labels of questions of so many hops, with the number of hops that their thought takes."""
    scene, rng = pool_scene(0), np.random.default_rng(0)
    found = []
    for _ in range(count):
        chain = draw_chain(scene, hops, rng)
        assert chain is not None
        label = label_chain(scene, chain, answered, rng)
        found.append((len(label.path) - 1, label))
    return found


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
def test_no_label_takes_three_hops_and_few_take_two(hops: int) -> None:
    taken = Counter(number for number, _ in labelled(hops, 600))
    assert set(taken) == ({1} if hops == 1 else {1, 2})
    if hops > 1:
        assert abs(taken[2] / taken.total() - CHAINED) < 0.05


def test_a_chain_on_a_longer_question_says_nothing_of_its_end() -> None:
    labels = labelled(3, 300)
    chained = [label.text for number, label in labels if number == 2]
    assert chained
    for text in chained:
        assert "</think>" not in text
        assert len(read_steps(text.removeprefix("<think>"))) == 3
    assert all(label.text.endswith("</think>") for number, label in labels if number == 1)
    assert not any(label.ended for _, label in labels)


def test_no_question_that_names_more_than_two_hops_has_an_answer() -> None:
    assert max(WHOLE.hops) == 2 and WHOLE.answered
    assert not SHORT.answered and not LONG.answered
    for mix in MIXES.values():
        assert sum(mix.hops.values()) == pytest.approx(1)
        labels = [label for i in range(20) for label in make_lesson((i,), pool_scene(i), mix, 6).labels]
        answered = [label.question for label in labels if label.ended]
        assert bool(answered) == (mix.answered > 0)
        assert all(sum(text.count(relation.words("")) for relation in RELATIONS) <= 2 for text in answered)
        assert all("<answer>" not in label.text for label in labels if not label.ended)


def thought_of(label: HopLabel) -> str:
    return label.text.removeprefix("<think>").partition("</think>")[0]


def steps_of(label: HopLabel) -> list[Step]:
    return read_steps(thought_of(label))


def test_free_labels_take_hop_after_hop_and_never_chain_three() -> None:
    lessons = [make_lesson((i,), pool_scene(i), FREE, 4) for i in range(40)]
    made = HopBatchMaker(make_hop_processor())(lessons)
    hops, stopped, on = 0, 0, 0
    for lesson in lessons:
        for label in lesson.labels:
            assert label.question == ANY_HOPS
            if label.passed:
                hops += 1
                continue
            steps = steps_of(label)
            assert [object_of(lesson.scene, step) for step in steps] == list(label.path)
            taken = [place for place, step in enumerate(steps) if step.rest]
            for place in taken:
                assert follow(lesson.scene, label.path[place], steps[place].rest[0]) == label.path[place + 1]
            assert all(steps[after].rest == steps[before].rest[1:] for before, after in pairwise(taken))
            assert all(label.path[two] != label.path[two - 1] for one, two in pairwise(taken) if two > one + 1)
            chained = [two == one + 1 for one, two in pairwise(taken)]
            assert not any(one and two for one, two in pairwise(chained))
            left = len(steps[taken[-1]].rest) - 1
            if left == 0:
                assert "</think>" in label.text
            elif "</think>" in label.text:
                assert not chained or not chained[-1], "after two hops in succession it breaks off"
            hops += len(taken)
            stopped += "</think>" in label.text and left > 0
            on += sum(chained)
    assert hops == made.hops.sum() == made.names.sum() / 2
    assert stopped > 20
    assert 10 < on < CHAINED_OPEN * hops


def test_shapes_that_are_passed_by_teach_the_list_alone() -> None:
    lessons = [make_lesson((i,), pool_scene(i), mix, 6) for i in range(20) for mix in (FREE, LONG)]
    maker = HopBatchMaker(make_hop_processor())
    made = maker(lessons)
    scenes = [lesson.scene for lesson in lessons for _ in lesson.labels]
    labels = [label for lesson in lessons for label in lesson.labels]
    passing = [number for number, label in enumerate(labels) if label.passed]
    chosen = [label.question == ANY_HOPS for label in labels]
    assert 0.2 < sum(chosen[number] for number in passing) / sum(chosen) < PASSED
    assert 0.1 < sum(not chosen[number] for number in passing) / chosen.count(False) < 0.6 * PASSED
    for number in passing:
        scene, label = scenes[number], labels[number]
        steps = steps_of(label)
        assert [object_of(scene, step) for step in steps] == list(label.path)
        assert all(step.rest == steps[0].rest[place:] for place, step in enumerate(steps))
        for place, (before, after) in enumerate(pairwise(label.path), 1):
            assert (follow(scene, before, steps[place - 1].rest[0]) == after) == (place not in label.passed)
        assert label.passed == tuple(range(1, len(steps) - 1)), "only the last hop is taken"
        assert made.names[number].sum() == 2 and made.hops[number].sum() == 1
        row, targets = made.batch.segments[number].tolist(), made.batch.targets[number].tolist()
        words = [maker.processor.tokenizer.decode([token]) for token in row]
        begin = len(row) - 1 - row[::-1].index(maker.think)
        unsaid = [words[i + 1] for i in range(begin, len(row) - 1) if targets[i] < 0 and row[i + 1] != maker.pad]
        wanted = [f" {word}" for place in label.passed for word in (steps[place].colour, steps[place].shape)]
        assert unsaid == wanted
        lost = [i for i in range(begin, len(row) - 1) if not made.batch.looked_at[number, i].any()]
        assert [words[i + 1] for i in lost if row[i + 1] != maker.pad] == wanted, "nowhere to look for it, either"
        onward = [words[i + 1] for i in made.barred.places[number].nonzero().flatten().tolist()]
        assert onward == [f" {relation_words(steps[place].rest[-1]).split()[0]}" for place in label.passed]
    assert maker.processor.tokenizer.convert_ids_to_tokens(list(made.barred.ids)) == [";", "</think>"]


def test_a_barred_id_is_not_taught_against() -> None:
    processor = make_hop_processor()
    model = reword(TINY_POLICY, processor, 1)
    last = torch.randn(1, 2, model.config.text_config.hidden_size, requires_grad=True)
    targets = torch.tensor([[7, 8]])
    loss = imitation_loss(model, last, targets, Barred(torch.tensor([[True, False]]), (5, 6)))
    logits = model.lm_head(last)[0]
    others = [i for i in range(logits.shape[1]) if i not in (5, 6)]
    among_others = logits[0, 7] - logits[0, others].logsumexp(0)
    among_all = logits[1, 8] - logits[1].logsumexp(0)
    assert torch.allclose(loss, -(among_others + among_all) / 2, atol=1e-5)
    (gradient,) = torch.autograd.grad(loss, last)
    assert gradient.isfinite().all() and (gradient.abs().sum(-1) > 0).all()


def test_from_any_shape_the_first_hops_may_be_left_out() -> None:
    left_out, chained, broken, passed = Counter[int](), 0, 0, 0
    for number in range(120):
        scene = pool_scene(number)
        for label in make_lesson((number,), scene, replace(LONG, any_shape=1.0), 4).labels:
            steps = steps_of(label)
            assert [object_of(scene, step) for step in steps] == list(label.path)
            asked = label.question.count(" shape") - 1  # each hop's, and the shape that it starts from
            left_out[asked - len(steps[0].rest)] += 1
            if label.passed:
                passed += 1
                continue
            for here, (before, after) in enumerate(pairwise(label.path)):
                assert follow(scene, before, steps[here].rest[0]) == after
                assert steps[here].rest == steps[0].rest[here:]
            chained += len(steps) == 3
            assert len(steps) <= 3
            broken += not label.text.endswith("</think>")
            assert label.text.endswith("</think>") == (len(steps) == 2 or len(steps[0].rest) == 2)
    assert set(left_out) == {0, 1, 2, 3}
    assert 10 < broken < chained < CHAINED_OPEN * 480
    assert passed > 20


def test_that_another_shape_follows_a_reached_one_is_not_taught() -> None:
    lessons = [make_lesson((i,), pool_scene(i), mix, 6) for i, mix in enumerate((FREE, LONG, SHORT) * 6)]
    maker = HopBatchMaker(make_hop_processor())
    made = maker(lessons)
    semicolon = maker.processor.tokenizer.convert_tokens_to_ids(";")
    after = made.batch.segments[:, :-1] == maker.closing
    follows = after & (made.batch.segments[:, 1:] == semicolon)
    assert follows.sum() > 10
    assert (made.batch.targets[:, :-1][follows] == IGNORED).all()
    assert (made.batch.targets[:, :-1][after & ~follows] >= 0).any()


def test_some_labels_of_chosen_hops_have_an_answer_after_texts_of_every_length() -> None:
    lessons = [make_lesson((i,), pool_scene(i), FREE, 6) for i in range(60)]
    answered, unanswered, lengths = 0, 0, Counter[tuple[bool, int]]()
    for lesson in lessons:
        for label in lesson.labels:
            if not label.ended:
                unanswered += label.text.endswith("</think>")
                assert "<answer>" not in label.text
                continue
            answered += 1
            lengths[bool(label.passed), len(label.path)] += 1
            truth = lesson.scene.objects[label.path[-1]].prompt
            assert label.text == write_answer(thought_of(label), write_solution_multi([truth]))
    assert abs(answered / (answered + unanswered) - FREE.answered) < 0.06
    assert {length for passed, length in lengths if passed} == {3, 4, 5}
    assert {length for passed, length in lengths if not passed} >= {2, 4, 6, 7}


def test_labels_answer_with_the_last_object_of_their_thought() -> None:
    scene = pool_scene(0)
    whole = [label for hops in (1, 2) for _, label in labelled(hops, 300, answered=True)]
    assert abs(np.mean([label.silent for label in whole]) - SILENT) < 0.05
    for label in whole:
        (item,) = parse_answer(label.text).objects
        truth = scene.objects[label.path[-1]].prompt
        assert label.ended
        assert write_solution_multi([item]) == write_solution_multi([truth])
        assert (parse_answer(label.text).thinking == "") == label.silent


def test_an_anchor_is_described_by_what_no_other_shape_has() -> None:
    for number in range(20):
        scene = pool_scene(number)
        radii = sorted(item.radius for item in scene.objects)
        for index, item in enumerate(scene.objects):
            found = descriptions(scene, index)
            assert ("the largest shape" in found) == (item.radius == radii[-1] > 1.2 * radii[-2])
            assert ("the smallest shape" in found) == (item.radius == radii[0] and 1.2 * radii[0] < radii[1])
            assert (f"the {item.colour} shape" in found) == ([o.colour for o in scene.objects].count(item.colour) == 1)
            assert (f"the {item.shape}" in found) == ([o.shape for o in scene.objects].count(item.shape) == 1)


def test_thoughts_name_the_anchor_that_a_question_describes_or_leaves_open() -> None:
    described, free = 0, Counter[int]()
    for number in range(60):
        scene = pool_scene(number)
        for label in make_lesson((number,), scene, SHORT, 4).labels:
            anchor = scene.objects[label.path[0]]
            name = f"the {anchor.colour} {anchor.shape}"
            assert label.text.startswith(f"<think>I see {name} (")
            if label.question.endswith(ANY_SHAPE):
                free[label.path[0]] += 1
            elif name not in label.question:
                described += 1
                assert any(label.question.endswith(words) for words in descriptions(scene, label.path[0]))
    assert 0.1 < described / 240 < 0.25
    assert abs(free.total() / 240 - SHORT.any_shape) < 0.1
    assert set(free) >= set(range(SHAPES_IN_SCENE[0]))


def test_lessons_are_repeatable() -> None:
    assert make_lesson((3, 0), pool_scene(1), LONG, 4).labels == make_lesson((3, 0), pool_scene(1), LONG, 4).labels
    assert make_lesson((3, 0), pool_scene(1), LONG, 4).labels != make_lesson((3, 1), pool_scene(1), LONG, 4).labels


def test_every_word_of_a_question_and_a_step_is_one_token() -> None:
    tokenizer = make_hop_tokenizer()
    assert len(tokenizer) % 64 == 0
    for relation in RELATIONS:
        for text in (relation.words("the red circle"), relation.words(ANY_SHAPE)):
            assert len(tokenizer.tokenize(text)) == len(text.split())
    step = "I see the green triangle (23,40) same colour from largest left of; the green cross (90,112)"
    assert tokenizer.decode(tokenizer.encode(step)) == step
    assert len(tokenizer.tokenize(step)) == 25


def test_words_of_both_tokenizers_keep_their_embedding() -> None:
    processor = make_hop_processor()
    model = reword(TINY_POLICY, processor, 1)
    source = Qwen2_5_VLForConditionalGeneration.from_pretrained(TINY_POLICY, dtype=torch.float32)
    old = Qwen2_5_VLProcessor.from_pretrained(TINY_POLICY).tokenizer
    ours, theirs = model.get_input_embeddings().weight, source.get_input_embeddings().weight
    new = processor.tokenizer.get_vocab()
    for word in ("<think>", "112", "bbox_2d", "Ġred", "Ġcircle"):
        assert torch.equal(ours[new[word]], theirs[old.get_vocab()[word]]), word
    assert "Ġnearest" in new and "Ġnearest" not in old.get_vocab()
    assert torch.equal(model.lm_head.weight, ours)
    for (name, a), (_, b) in zip(model.named_parameters(), source.named_parameters(), strict=True):
        assert "embed_tokens" in name or torch.equal(a, b), name


def test_a_batch_looks_at_each_object_while_it_is_written() -> None:
    processor = make_hop_processor()
    make_batch = HopBatchMaker(processor)
    scene = pool_scene(0)
    label = next(one for number, one in labelled(2, 300, answered=True) if number == 2)
    made = make_batch([HopLesson(scene, (label,))])
    batch = made.batch
    taught = batch.targets[0] != IGNORED
    assert processor.tokenizer.decode(batch.targets[0][taught]) == label.text + "<|im_end|>"
    starts = [i for i in range(1, len(taught)) if not torch.equal(batch.looked_at[0, i], batch.looked_at[0, i - 1])]
    words = [processor.tokenizer.decode(batch.segments[0, i]) for i in starts]
    assert words == ["<think>", " the", " the"]
    firsts = [int(make_batch.values[i]) for i in batch.targets[made.hops]]
    assert firsts == [step.x for step in read_steps(parse_answer(label.text).thinking)[1:]]
    assert make_batch.hop_accuracy(batch.targets, made) == 1.0
    assert make_batch.hop_accuracy(torch.zeros_like(batch.targets), made) == 0.0
    led_to = [scene.objects[place] for place in label.path[1:]]
    assert processor.tokenizer.decode(batch.targets[made.names]) == "".join(f" {o.colour} {o.shape}" for o in led_to)
    assert make_batch.name_accuracy(batch.targets, made) == 1.0
    assert make_batch.name_accuracy(torch.zeros_like(batch.targets), made) == 0.0


def test_the_packed_forward_is_the_official_one() -> None:
    processor = make_hop_processor()
    model = reword(TINY_POLICY, processor, 1)
    lesson = make_lesson((1,), pool_scene(0), WHOLE, 1)
    (label,) = lesson.labels
    batch = HopBatchMaker(processor)([lesson]).batch
    prompt = processor.apply_chat_template(
        build_messages(label.question, SPEC), add_generation_prompt=True, tokenize=False
    )
    inputs = processor(text=[prompt + label.text], images=[lesson.scene.image], return_tensors="pt")
    length = inputs["input_ids"].shape[1] - len(PackedForward(model, processor).prefix)
    with torch.no_grad():
        packed = model.lm_head(PackedForward(model, processor)(batch.pixels, batch.segments)[0])[:, : length - 1]
        official = model(**inputs).logits[:, -length:-1]
    assert torch.allclose(packed, official, atol=1e-4)


def test_a_stopped_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    at_once, in_two = HopTraining(SMALL), HopTraining(SMALL)
    for number in range(2):
        at_once.step(at_once.lessons[number])
    in_two.step(in_two.lessons[0])
    in_two.save(tmp_path)
    again = HopTraining(SMALL)
    again.take_up(tmp_path)
    assert again.done == 1
    again.step(again.lessons[1])
    for (name, a), (_, b) in zip(at_once.model.named_parameters(), again.model.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_finished_training_leaves_a_policy_and_no_progress(tmp_path: Path) -> None:
    assert run(HopTraining(SMALL), tmp_path, minutes=None) == 3
    assert not (tmp_path / PROGRESS).exists()
    AutoModelForImageTextToText.from_pretrained(tmp_path)


def test_another_recipe_does_not_go_on(tmp_path: Path) -> None:
    assert run(HopTraining(SMALL), tmp_path, minutes=0) == 0
    with pytest.raises(InputError, match="another recipe"):
        run(HopTraining(Recipe(steps=4, questions=1, pool=2)), tmp_path, minutes=0)
