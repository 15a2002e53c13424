"""Question to mask with real model classes: the embedded SAM2 and a policy whose text is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.synthetic import make_samples
from seg_zero.data.synthetic_rows import sample_to_row
from seg_zero.errors import InputError
from seg_zero.evaluation import evaluate, paired_gain, write_evaluation
from seg_zero.pipeline import ReasoningSegmenter
from seg_zero.prompting import PromptSpec
from seg_zero.segmenter import Segmenter
from seg_zero.visualize import overlay

SAMPLES = list(make_samples(21, 12))
ROWS = [sample_to_row(sample, f"row-{i}") for i, sample in enumerate(SAMPLES)]


class ScriptedPolicy:
    """Says given texts; stands for any policy where only what happens to its text is tested."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.spec, self.texts = PromptSpec("brief", 112), list(texts)

    def generate(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        return [self.texts.pop(0) for _ in questions]


@pytest.fixture(scope="module")
def sam2() -> Segmenter:
    return Segmenter.from_pretrained()


def test_true_answers_give_nearly_perfect_metrics(sam2: Segmenter) -> None:
    texts = [write_answer("seen", row.solution) for row in ROWS]
    report, predictions = evaluate(ReasoningSegmenter(ScriptedPolicy(texts), sam2), ROWS, batch_size=5)
    assert report.metrics["gIoU"] > 0.9
    assert report.metrics["box_IoU"] == 1.0
    assert report.metrics["format_rate"] == 1.0
    assert (report.rows, report.unparsable, report.empty_answers) == (12, 0, 2)
    assert [p.id for p in predictions] == [row.id for row in ROWS]


def test_unreadable_answers_stay_in_the_mean_and_are_counted(sam2: Segmenter, tmp_path: Path) -> None:
    texts = [write_answer("seen", row.solution) if i % 2 else "I cannot say" for i, row in enumerate(ROWS)]
    report, predictions = evaluate(ReasoningSegmenter(ScriptedPolicy(texts), sam2), ROWS)
    assert (report.rows, report.unparsable) == (12, 6)
    assert report.metrics["format_rate"] == 0.5
    assert all(p.iou == 0.0 for p in predictions if p.problem and p.kind != "none")
    write_evaluation(tmp_path, report, predictions)
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 12


def test_an_empty_set_is_refused(sam2: Segmenter) -> None:
    with pytest.raises(InputError, match="no rows"):
        evaluate(ReasoningSegmenter(ScriptedPolicy([]), sam2), [])


@pytest.mark.parametrize("size", [(112, 112), (336, 224), (50, 400)])
def test_answers_return_to_the_pixels_of_the_image(sam2: Segmenter, size: tuple[int, int]) -> None:
    sample = next(s for s in SAMPLES if s.question.kind == "size")
    target = sample.scene.objects[sample.question.targets[0]]
    image = sample.scene.image.resize(size, Image.Resampling.NEAREST)
    truth = np.asarray(Image.fromarray(target.mask).resize(size, Image.Resampling.NEAREST))
    text = write_answer("that one", write_solution_multi([target.prompt]))
    result = ReasoningSegmenter(ScriptedPolicy([text]), sam2)(image, "the largest one")
    assert result.mask.shape == truth.shape
    assert (result.mask & truth).sum() / (result.mask | truth).sum() > 0.8


@pytest.mark.parametrize(
    "text", ["", "word salad", "<answer>[]</answer>", '<answer>[{"bbox_2d":[9e5,0,-9e5,1]}]</answer>']
)
def test_whatever_the_policy_writes_there_is_a_result(sam2: Segmenter, text: str) -> None:
    result = ReasoningSegmenter(ScriptedPolicy([text]), sam2)(SAMPLES[0].scene.image, "the cup")
    assert not result.found
    assert result.mask.shape == (112, 112)
    assert result.text == text


def test_bad_images_and_questions_are_input_errors(sam2: Segmenter) -> None:
    segmenter = ReasoningSegmenter(ScriptedPolicy([]), sam2)
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


def test_paired_gain_brackets_the_mean() -> None:
    gain, low, high = paired_gain([0.2, 0.4, 0.6, 0.1], [0.5, 0.6, 0.7, 0.5])
    assert gain == pytest.approx(0.25)
    assert 0.1 <= low <= gain <= high <= 0.4
