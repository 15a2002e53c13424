"""Question to mask with real model classes: the embedded SAM2 and a policy whose text is given."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from helpers.scripted_policy import ScriptedPolicy
from PIL import Image

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.errors import InputError
from seg_zero.pipeline import EMBEDDINGS, ReasoningSegmenter, SegmentationResult
from seg_zero.policy import GREEDY, Reply, Request, Sampling, TransformersPolicy
from seg_zero.segmenter import Embedding, Segmenter
from seg_zero.segmenter.files import TINY_FOLDER
from seg_zero.segmenter.sam2_package import Sam2PackageSegmenter
from seg_zero.visualize import cutout

SAMPLES = list(make_samples(21, 12))


@pytest.fixture(scope="module")
def sam2() -> Sam2PackageSegmenter:
    return Sam2PackageSegmenter.from_files(TINY_FOLDER / "tiny_sam2.yaml", TINY_FOLDER / "model.pt", "cpu")


@pytest.mark.parametrize("size", [(112, 112), (336, 224), (50, 400)])
def test_answers_return_to_the_pixels_of_the_image(sam2: Segmenter, size: tuple[int, int]) -> None:
    sample = next(s for s in SAMPLES if s.question.kind == "size")
    target = sample.scene.objects[sample.question.targets[0]]
    image = sample.scene.image.resize(size, Image.Resampling.NEAREST)
    truth = np.asarray(Image.fromarray(target.mask).resize(size, Image.Resampling.NEAREST))
    text = write_answer("that one", write_solution_multi([target.prompt]))
    result = ReasoningSegmenter(ScriptedPolicy({"the largest one": text}), sam2)(image, "the largest one")
    assert result.mask.shape == truth.shape
    assert (result.mask & truth).sum() / (result.mask | truth).sum() > 0.8


@pytest.mark.parametrize(
    "text", ["", "word salad", "<answer>[]</answer>", '<answer>[{"bbox_2d":[9e5,0,-9e5,1]}]</answer>']
)
def test_whatever_the_policy_writes_there_is_a_result(sam2: Segmenter, text: str) -> None:
    result = ReasoningSegmenter(ScriptedPolicy({"the cup": text}), sam2)(SAMPLES[0].scene.image, "the cup")
    assert not result.found
    assert result.mask.shape == (112, 112)
    assert result.text == text


@pytest.mark.parametrize(
    ("image", "question", "options", "words"),
    [
        ("no_such_picture.png", "the cup", {}, "does not exist"),
        (SAMPLES[0].scene.image, " ?! ", {}, "is empty"),
        (SAMPLES[0].scene.image, None, {}, "question is a NoneType"),
        (SAMPLES[0].scene.image, "the cup", {"votes": 0}, "votes=0"),
        (SAMPLES[0].scene.image, "the cup", {"votes": 2.5}, "votes=2.5"),
        (SAMPLES[0].scene.image, "the cup", {"votes": 3, "temperature": 0.0}, "all votes are equal"),
        (SAMPLES[0].scene.image, "the cup", {"temperature": float("nan")}, "temperature=nan"),
    ],
)
def test_bad_images_questions_and_options_are_input_errors(
    sam2: Segmenter, image: Any, question: Any, options: dict[str, Any], words: str
) -> None:
    policy = ScriptedPolicy({})
    with pytest.raises(InputError, match=words):
        ReasoningSegmenter(policy, sam2)(image, question, **options)
    assert policy.asked == []


def test_numbers_of_images_and_questions_must_agree(sam2: Segmenter) -> None:
    with pytest.raises(InputError, match="2 images and 1 questions"):
        ReasoningSegmenter(ScriptedPolicy({}), sam2).batch([SAMPLES[0].scene.image] * 2, ["the cup"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cuda:99"}, "device 'cuda:99' is not there; this machine has"),
        ({"device": "toaster"}, "device 'toaster' is unknown"),
        ({"device": "xpu"}, "device 'xpu' is not there"),
        ({"dtype": "float8"}, "dtype 'float8' is unknown; choose one of float32, bfloat16, float16"),
    ],
)
def test_devices_and_dtypes_that_are_not_there_are_named(options: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ReasoningSegmenter.from_pretrained(**options)


def test_dtype_can_be_chosen() -> None:
    segmenter = ReasoningSegmenter.from_pretrained(device="cpu", dtype="bfloat16", max_new_tokens=96)
    assert segmenter.policy.model.dtype == torch.bfloat16  # type: ignore[attr-defined]
    assert segmenter(SAMPLES[0].scene.image, "the largest circle").text


def test_the_package_is_light_until_the_models_are_wanted() -> None:
    code = """
import sys, time
start = time.perf_counter()
import seg_zero
seconds = time.perf_counter() - start
assert "torch" not in sys.modules and "numpy" not in sys.modules and seconds < 0.2, seconds
assert seg_zero.ReasoningSegmenter.__module__ == "seg_zero.pipeline" and "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


class CountingSegmenter(Sam2PackageSegmenter):
    """The embedded SAM2, noting what it embeds and where."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.embedded: list[bytes] = []
        self.threads: set[str] = set()

    def embed(self, images: Sequence[Image.Image]) -> list[Embedding]:
        self.embedded += [image.tobytes() for image in images]
        self.threads.add(threading.current_thread().name)
        return super().embed(images)


@pytest.fixture
def counting(sam2: Sam2PackageSegmenter) -> CountingSegmenter:
    return CountingSegmenter(sam2.model)


@pytest.fixture(scope="module")
def tiny() -> TransformersPolicy:
    return TransformersPolicy.from_pretrained(max_new_tokens=96)


def one_answer_each() -> ScriptedPolicy:
    texts = {}
    for number, sample in enumerate(SAMPLES):
        target = sample.scene.objects[number % len(sample.scene.objects)]
        texts[f"thing {number}"] = write_answer("look", write_solution_multi([target.prompt]))
    return ScriptedPolicy(texts)


def test_an_image_is_embedded_once_for_all_its_questions_in_a_thread_of_its_own(counting: CountingSegmenter) -> None:
    images = [sample.scene.image for sample in SAMPLES[:6]]
    segmenter = ReasoningSegmenter(one_answer_each(), counting)
    # Six images in turn, so that the one asked about again has left the cache of embeddings meanwhile.
    results = segmenter.batch(images * 2, [f"thing {n}" for n in range(12)])
    assert sorted(counting.embedded) == sorted(image.tobytes() for image in images)
    assert [result.question for result in results] == [f"thing {n}" for n in range(12)]
    assert all(name.startswith("sam2") for name in counting.threads)
    alone = [ReasoningSegmenter(one_answer_each(), counting)(images[n % 6], f"thing {n}") for n in range(12)]
    for one, other in zip(results, alone, strict=True):
        assert np.array_equal(one.masks, other.masks) and one.objects[0].box == other.objects[0].box


def test_sam2_embeds_while_the_policy_writes(counting: CountingSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy does not end its answer before the image is embedded, which would never be if one waited."""
    embedded, plain = threading.Event(), counting.embed

    def embed(images: Sequence[Image.Image]) -> list[Embedding]:
        embedded.set()
        return plain(images)

    class WaitingPolicy(ScriptedPolicy):
        def stream(self, requests: Iterable[Request | None], sampling: Sampling = GREEDY) -> Iterator[Reply]:
            for reply in super().stream(requests, sampling):
                assert embedded.wait(20)
                yield reply

    monkeypatch.setattr(counting, "embed", embed)
    policy = WaitingPolicy({"nothing": write_answer("", "[]")})
    segmenter = ReasoningSegmenter(policy, counting)
    assert not segmenter(SAMPLES[0].scene.image, "nothing").found
    embedded.clear()
    assert len(list(segmenter.stream(SAMPLES[1].scene.image, "nothing"))) == 2


def test_a_follow_up_question_embeds_nothing_and_a_changed_image_does(counting: CountingSegmenter) -> None:
    segmenter = ReasoningSegmenter(one_answer_each(), counting)
    image = SAMPLES[0].scene.image
    first, again = segmenter(image, "thing 0"), segmenter(np.asarray(image), "thing 1")
    assert len(counting.embedded) == 1
    assert first.seconds["embedding"] > 0 == again.seconds["embedding"]
    segmenter(image.rotate(90), "thing 0")
    assert len(counting.embedded) == 2
    for sample in SAMPLES[1 : 1 + EMBEDDINGS]:
        segmenter(sample.scene.image, "thing 0")
    segmenter(image, "thing 0")
    assert counting.embedded.count(image.tobytes()) == 2, "only the last embeddings are kept"


def test_objects_given_by_hand_are_segmented_without_the_policy_or_a_new_embedding(counting: CountingSegmenter) -> None:
    segmenter = ReasoningSegmenter(one_answer_each(), counting, embeddings=1)
    image, other = SAMPLES[0].scene.image, SAMPLES[1].scene.image
    asked = segmenter(image, "thing 0")
    found, seconds = segmenter.segment(image, asked.objects)
    assert (found.masks == asked.masks).all() and found.scores.tolist() == asked.scores.tolist()
    assert len(counting.embedded) == 1 and seconds["embedding"] == 0 < seconds["segmenter"]
    segmenter.segment(other, asked.objects)
    assert segmenter.segment(image, asked.objects)[1]["embedding"] > 0, "only one embedding is kept"


def test_a_failed_embedding_is_raised_and_tried_again(
    counting: CountingSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = ReasoningSegmenter(one_answer_each(), counting)
    with monkeypatch.context() as patch:
        patch.setattr(counting, "embed", lambda images: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            segmenter(SAMPLES[0].scene.image, "thing 0")
    assert segmenter(SAMPLES[0].scene.image, "thing 0").found


def test_objects_carry_their_own_mask_and_score(sam2: Segmenter) -> None:
    sample = next(s for s in SAMPLES if len(s.scene.objects) >= 2)
    text = write_answer("both", write_solution_multi([item.prompt for item in sample.scene.objects[:2]]))
    result = ReasoningSegmenter(ScriptedPolicy({"both": text}), sam2)(sample.scene.image, "both")
    assert result.masks.shape == (2, 112, 112)
    for index, item in enumerate(result.objects):
        assert np.array_equal(item.mask, result.masks[index]) and item.score == result.scores[index] > 0.5
    assert np.array_equal(result.mask, result.objects[0].mask | result.objects[1].mask)
    assert set(result.seconds) == {"policy", "embedding", "segmenter"}


def test_votes_keep_the_pixels_of_the_majority(sam2: Segmenter) -> None:
    sample = next(s for s in SAMPLES if len(s.scene.objects) >= 2)
    one, other = (
        write_answer(name, write_solution_multi([item.prompt]))
        for name, item in zip(("one", "other"), sample.scene.objects, strict=False)
    )
    segmenter = ReasoningSegmenter(ScriptedPolicy({"vote": (other, one, one), "one": one}), sam2)
    result, plain = segmenter(sample.scene.image, "vote", votes=3), segmenter(sample.scene.image, "one")
    assert result.texts == (other, one, one)
    assert (result.thinking, result.text) == ("one", one)
    assert np.array_equal(result.mask, plain.mask) and np.array_equal(result.masks, plain.masks)


def test_sampled_votes_follow_the_seed_and_not_what_else_is_asked(tiny: TransformersPolicy, sam2: Segmenter) -> None:
    segmenter = ReasoningSegmenter(tiny, sam2)
    first, second = SAMPLES[0].scene.image, SAMPLES[1].scene.image
    options: dict[str, Any] = {"votes": 3, "temperature": 1.0}
    alone = segmenter(first, "the largest circle", seed=1, **options)
    beside = segmenter.batch([second, first], ["all squares", "the largest circle"], seed=1, **options)[1]
    assert alone.texts == beside.texts and len(alone.texts) == 3
    assert np.array_equal(alone.mask, beside.mask)
    assert segmenter(first, "the largest circle", seed=2, **options).texts != alone.texts


def test_a_stream_gives_the_text_and_the_result_of_a_plain_call(tiny: TransformersPolicy, sam2: Segmenter) -> None:
    segmenter = ReasoningSegmenter(tiny, sam2)
    for sample in SAMPLES[:3]:
        plain = segmenter(sample.scene.image, sample.question.text)
        *pieces, result = segmenter.stream(sample.scene.image, sample.question.text)
        assert isinstance(result, SegmentationResult) and len(pieces) > 1
        assert "".join(str(piece) for piece in pieces) == result.text == plain.text
        assert np.array_equal(result.masks, plain.masks) and result.thinking == plain.thinking


def test_a_policy_that_writes_in_one_go_streams_one_piece(sam2: Segmenter) -> None:
    piece, result = ReasoningSegmenter(one_answer_each(), sam2).stream(SAMPLES[0].scene.image, "thing 0")
    assert isinstance(result, SegmentationResult) and result.text == piece and result.found


def test_who_stops_reading_a_stream_stops_the_policy(tiny: TransformersPolicy, sam2: Segmenter) -> None:
    steps = []
    segmenter = ReasoningSegmenter(tiny, sam2)
    before = set(threading.enumerate())

    def slow_step(*_: object) -> None:
        steps.append(1)
        time.sleep(0.02)

    hook = tiny.model.register_forward_pre_hook(slow_step)
    try:
        stream = segmenter.stream(SAMPLES[0].scene.image, "the largest circle")
        assert isinstance(next(stream), str)
        stream.close()  # type: ignore[attr-defined]
        assert not [thread for thread in threading.enumerate() if thread.name == "policy" and thread not in before]
        stopped = len(steps)
        list(segmenter.stream(SAMPLES[0].scene.image, "the largest circle"))
        assert stopped < (len(steps) - stopped) / 2
    finally:
        hook.remove()


def test_what_ends_the_policy_is_raised_where_the_stream_is_read(tiny: TransformersPolicy, sam2: Segmenter) -> None:
    segmenter = ReasoningSegmenter(tiny, sam2)
    with pytest.raises(InputError, match="does not exist"):
        segmenter.stream("no_such_picture.png", "the cup")
    with pytest.raises(InputError, match="tokens"):
        list(segmenter.stream(SAMPLES[0].scene.image, "the cup " * 2000))

    def broken(*_: object) -> None:
        raise MemoryError("no room")

    hook = tiny.model.register_forward_pre_hook(broken)
    try:
        with pytest.raises(MemoryError, match="no room"):
            list(segmenter.stream(SAMPLES[0].scene.image, "the cup"))
    finally:
        hook.remove()


def test_a_cutout_shows_the_mask_alone() -> None:
    sample = SAMPLES[0]
    mask = sample.scene.objects[0].mask
    picture = cutout(sample.scene.image, mask)
    assert picture.mode == "RGBA"
    assert np.array_equal(np.asarray(picture)[..., 3], mask * np.uint8(255))
    assert np.array_equal(np.asarray(picture)[mask][:, :3], np.asarray(sample.scene.image)[mask])
    assert not np.asarray(picture)[~mask].any()


def test_an_answer_cut_by_the_token_limit_says_so(sam2: Segmenter) -> None:
    """Word by word and in batches; an answer that is whole says nothing."""
    image, question = SAMPLES[0].scene.image, SAMPLES[0].question.text
    for limit in (8, 1024):
        segmenter = ReasoningSegmenter(TransformersPolicy.from_pretrained(max_new_tokens=limit), sam2)
        *_, streamed = segmenter.stream(image, question)
        for result in (segmenter(image, question), streamed):
            assert isinstance(result, SegmentationResult)
            cut = "the text was cut at 8 tokens: raise --max_new_tokens" in str(result.problem)
            assert cut == (limit == 8)
