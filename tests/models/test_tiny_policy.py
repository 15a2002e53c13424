"""The embedded tiny policy: it loads offline like any checkpoint and answers."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import seg_zero.models
from seg_zero.answer import parse_answer
from seg_zero.data.synthetic.scenes import KINDS, make_sample, make_samples, questions_of
from seg_zero.models.tiny_policy_data import CAREFUL_SHARE, careful_label, hasty_label, is_careful, make_lesson
from seg_zero.models.tiny_policy_forward import PackedForward, patchify
from seg_zero.models.tiny_policy_losses import IGNORED, BatchMaker
from seg_zero.models.tiny_policy_measure import HELD_OUT_SEED, box_iou, measure, respond
from seg_zero.models.tiny_policy_model import SPEC, make_model, save_policy
from seg_zero.models.tiny_policy_tokenizer import DIALOGUE_WORDS, VOCAB_SIZE, make_processor, make_tokenizer, number_ids
from seg_zero.prompting import PromptSpec, build_messages

FOLDER = Path(seg_zero.models.__file__).parent / "tiny_policy"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@cache
def shipped():
    processor = AutoProcessor.from_pretrained(FOLDER)
    return AutoModelForImageTextToText.from_pretrained(FOLDER, dtype=torch.float32).eval(), processor


def test_folder_is_small_and_complete():
    names = {path.name for path in FOLDER.iterdir()}
    assert {"config.json", "generation_config.json", "chat_template.jinja", "seg_zero.json", "README.md"} <= names
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 12_000_000
    assert PromptSpec.load(FOLDER) == SPEC


def test_vocabulary_has_no_padding_and_single_numbers():
    model, processor = shipped()
    tokenizer = processor.tokenizer
    assert len(tokenizer) == VOCAB_SIZE + len(DIALOGUE_WORDS) == model.config.text_config.vocab_size
    assert VOCAB_SIZE % 64 == 0 == len(DIALOGUE_WORDS) % 64
    for value, token in enumerate(number_ids(tokenizer)):
        assert tokenizer.encode(str(value)) == [token]
    assert set(model.generation_config.eos_token_id) == {
        tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>")
    }


def test_tokenizer_is_the_one_the_code_makes():
    tokenizer = shipped()[1].tokenizer
    assert tokenizer.get_vocab() == make_tokenizer(words=DIALOGUE_WORDS).get_vocab()
    answer = careful_label(make_sample(3, 4).scene, make_sample(3, 4).question).text
    assert tokenizer.decode(tokenizer.encode(answer + "<|im_end|>"), skip_special_tokens=True) == answer
    odd = "naïve 漢字 1130 <answer>"
    assert tokenizer.decode(tokenizer.encode(odd)) == odd


def test_chat_template_takes_turns_and_strings():
    processor = shipped()[1]
    text = processor.apply_chat_template(
        [{"role": "system", "content": "be brief"}, *build_messages("The red CROSS.", SPEC)],
        add_generation_prompt=True,
        tokenize=False,
    )
    assert text == (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
        'Find "the red cross". Reply <think></think><answer></answer>.<|im_end|>\n<|im_start|>assistant\n'
    )
    turn = {"role": "assistant", "content": [{"type": "text", "text": "done"}]}
    assert processor.apply_chat_template([turn], tokenize=False) == "<|im_start|>assistant\ndone<|im_end|>\n"


def test_processor_passes_112_pixels_on():
    processor = shipped()[1]
    image = make_sample(3, 0).scene.image
    got = processor.image_processor(images=[image], return_tensors="pt")
    assert got["image_grid_thw"].tolist() == [[1, 8, 8]]
    assert torch.allclose(got["pixel_values"], patchify([image], processor)[0], atol=1e-5)


def test_packed_forward_equals_the_official_one():
    processor = make_processor()
    model = make_model(processor, seed=0)
    lessons = [make_lesson(3, i, 2) for i in range(2)]
    forward, batch = PackedForward(model, processor), BatchMaker(processor)(lessons)
    with torch.no_grad():
        packed = model.lm_head(forward(batch.pixels, batch.segments)[0])
    images = [lesson.scene.image for lesson in lessons for _ in lesson.questions]
    messages = [build_messages(q.text, SPEC) for lesson in lessons for q in lesson.questions]
    texts = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    responses = [label.text for lesson in lessons for label in lesson.labels]
    full = [text + response for text, response in zip(texts, responses, strict=True)]
    inputs = processor(text=full, images=images, return_tensors="pt", padding=True, padding_side="right")
    prefix = len(forward.prefix)
    length = inputs["input_ids"].shape[1] - prefix
    assert torch.equal(inputs["input_ids"][:, prefix:], batch.segments[:, :length])
    with torch.no_grad():
        official = model(**inputs).logits[:, prefix:]
    learnt = batch.targets[:, :length] != IGNORED
    assert torch.allclose(packed[:, :length][learnt], official[learnt], atol=1e-4)


def test_save_is_loadable_and_keeps_other_files(tmp_path: Path):
    processor = make_processor()
    model = make_model(processor, seed=0)
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "README.md").write_text("mine")
    save_policy(model, processor, tmp_path / "policy", torch.float32)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "policy", dtype=torch.float32)
    for (name, a), (_, b) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    assert (tmp_path / "policy" / "README.md").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


@pytest.mark.parametrize("kind", KINDS)
def test_annotators(kind: str):
    rng = np.random.default_rng(0)
    for index in range(20):
        scene = make_sample(3, index, kinds=(kind,)).scene
        for question in questions_of(scene, kind)[:4]:
            truth = [scene.objects[i].prompt for i in question.targets]
            careful, hasty = careful_label(scene, question), hasty_label(scene, question, rng)
            assert is_careful(careful.text) and not is_careful(hasty.text)
            assert careful == careful_label(scene, question)
            exact, loose = parse_answer(careful.text), parse_answer(hasty.text)
            assert exact.problem is None and loose.problem is None
            assert box_iou(exact.objects, truth) == pytest.approx(1.0)
            assert len(loose.objects) == len(hasty.shown) == 1
            (x1, y1, x2, y2), (px, py) = loose.objects[0].box, loose.objects[0].points[0]
            assert 0 <= x1 <= px <= x2 <= 111 and 0 <= y1 <= py <= y2 <= 111
            assert box_iou(loose.objects, truth) < 0.7


def test_lessons_are_repeatable_and_mostly_hasty():
    first = [make_lesson(5, i, 4) for i in range(60)]
    assert [lesson.labels for lesson in first] == [make_lesson(5, i, 4).labels for i in range(60)]
    share = np.mean([label.careful for lesson in first for label in lesson.labels])
    assert abs(share - CAREFUL_SHARE) < 0.1


def test_shipped_policy_answers_and_has_room():
    """What training by reward needs: valid answers, and a better manner that is there but not the likelier one."""
    model, processor = shipped()
    samples = list(make_samples(HELD_OUT_SEED, 48))
    greedy = measure("greedy", samples, respond(model, processor, samples))
    careful = measure("careful", samples, respond(model, processor, samples, opening="<think>I see"))
    assert greedy.valid >= 0.95 and careful.valid >= 0.95
    assert greedy.box_iou < 0.45
    assert careful.box_iou > greedy.box_iou + 0.15
