"""Question to mask with real model classes: the embedded SAM2 and a policy whose text is given."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scripted_policy import ScriptedPolicy

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.synthetic import make_samples
from seg_zero.errors import InputError
from seg_zero.pipeline import ReasoningSegmenter
from seg_zero.segmenter import Segmenter
from seg_zero.visualize import overlay

SAMPLES = list(make_samples(21, 12))


@pytest.fixture(scope="module")
def sam2() -> Segmenter:
    return Segmenter.from_pretrained()


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


def test_bad_images_and_questions_are_input_errors(sam2: Segmenter) -> None:
    segmenter = ReasoningSegmenter(ScriptedPolicy({}), sam2)
    with pytest.raises(InputError, match="does not exist"):
        segmenter("no_such_picture.png", "the cup")


def test_overlay_tints_the_mask_and_enlarges_small_images() -> None:
    sample = SAMPLES[0]
    target = sample.scene.objects[sample.question.targets[0]]
    picture = overlay(sample.scene.image, target.mask[None], [target.prompt], min_side=300)
    assert picture.size == (336, 336)
    changed = (np.asarray(picture) != np.asarray(sample.scene.image.resize((336, 336), Image.Resampling.NEAREST))).any(
        2
    )
    inside = target.mask.repeat(3, axis=0).repeat(3, axis=1)
    assert changed[inside].mean() > 0.95
