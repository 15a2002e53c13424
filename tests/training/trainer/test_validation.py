"""Numbers and pictures of a validation during training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seg_zero.data.rows import write_rows
from seg_zero.data.synthetic.rows import HELD_OUT_SEED, sample_to_row
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.masks import encode_mask
from seg_zero.prompting import PromptSpec
from seg_zero.training.rollout.reward import HELD_OUT_SAMPLE
from seg_zero.training.trainer import validation


def sample(row: int, iou: float | None, intersection: int, union: int, source: str = "a/rows.parquet") -> str:
    """``iou`` None: SAM2 failed on it."""
    values = {"source": source, "row": row, "well_formed": iou is not None, "failed": iou is None, "mask": None}
    counts = {"intersection": intersection, "prediction": intersection, "truth": union, "answered": iou is not None}
    return json.dumps({**values, "counts": counts})


def test_giou_is_the_mean_and_ciou_the_ratio_of_sums() -> None:
    """Row 2 has no target and a right empty answer; SAM2 failed on row 3, which counts 0 and is counted."""
    encoded = [sample(1, 0.5, 50, 100), sample(0, 0.9, 900, 1000), sample(2, 1.0, 0, 0), sample(3, None, 0, 0)]
    samples = validation.read_samples(["t"] * 4, {HELD_OUT_SAMPLE: encoded})
    assert [item.row for item in samples] == [0, 1, 2, 3]
    metrics = validation.summarise(samples)
    assert metrics["validation/gIoU"] == pytest.approx((0.5 + 0.9 + 1.0 + 0.0) / 4)
    assert metrics["validation/cIoU"] == pytest.approx(950 / 1100)
    assert (metrics["validation/format"], metrics["validation/failures"], metrics["validation/rows"]) == (0.75, 1, 4)


def test_an_unreadable_answer_scores_nothing_where_nothing_is_to_be_found() -> None:
    values = json.loads(sample(0, 1.0, 0, 0))
    values["counts"]["answered"] = False
    (read,) = validation.read_samples(["no idea"], {HELD_OUT_SAMPLE: [json.dumps(values)]})
    assert read.iou == 0.0 and validation.summarise([read])["validation/gIoU"] == 0.0


def test_several_datasets_have_numbers_of_their_own() -> None:
    encoded = [sample(0, 0.2, 1, 5), sample(0, 0.8, 4, 5, "b/others.parquet")]
    metrics = validation.summarise(validation.read_samples(["t", "t"], {HELD_OUT_SAMPLE: encoded}))
    assert (metrics["validation/rows/gIoU"], metrics["validation/others/gIoU"]) == (0.2, 0.8)
    assert metrics["validation/gIoU"] == pytest.approx(0.5)


def test_rows_that_were_not_segmented_give_no_numbers() -> None:
    assert validation.read_samples(["t"], {"score": [1.0]}) == []
    assert validation.summarise([]) == {}


def test_histograms_cover_every_term() -> None:
    values = validation.term_values({"score": [0.5, 7.0], "reward": [1, 2], "iou": [1, 0], HELD_OUT_SAMPLE: ["x", "y"]})
    assert values == {"score": [0.5, 7.0], "iou": [1.0, 0.0]}
    found = validation.histogram(values["score"])
    assert (found["mean"], sum(found["counts"]), found["edges"][0], found["edges"][-1]) == (3.75, 2, 0.0, 7.0)


def test_pictures_show_any_answer(tmp_path: Path) -> None:
    """Good, empty and unreadable answers, and text in other scripts."""
    scenes = list(make_samples(HELD_OUT_SEED, 3))
    path = tmp_path / "rows.parquet"
    write_rows(path, [sample_to_row(scene, f"row-{i}") for i, scene in enumerate(scenes)])
    solution = sample_to_row(scenes[0], "x").solution
    texts = [f"<think>red one</think><answer>{solution}</answer>", "<think></think><answer>[]</answer>", "乱 " * 300]
    encoded = [json.loads(sample(i, 0.5, 1, 2, str(path))) for i in range(3)]
    encoded[0]["mask"] = encode_mask(scenes[0].mask)
    samples = validation.read_samples(texts, {HELD_OUT_SAMPLE: [json.dumps(item) for item in encoded]})
    sheet = validation.draw_samples(samples, PromptSpec("brief", 112))
    assert sheet.width > 1000 and sheet.height > 3 * 300
    sheet.save(tmp_path / "sheet.png")


def test_bands_of_landscapes_are_as_high_as_pictures_and_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    row = sample_to_row(next(iter(make_samples(HELD_OUT_SEED, 1))), "row")
    text = f"<think>red</think><answer>{row.solution}</answer>"
    write_rows(path, [replace(row, img_width=400, img_height=100)])
    (read,) = validation.read_samples([text], {HELD_OUT_SAMPLE: [sample(0, 0.5, 1, 2, str(path))]})
    assert 75 < validation.draw_samples([read], PromptSpec("brief", 112)).height < 200


def test_a_long_verdict_stays_in_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, [sample_to_row(scene, "row") for scene in make_samples(HELD_OUT_SEED, 1)])
    text = "<think>red one</think><answer>[{oh no, this cannot be read, whatever one tries}]</answer>"
    (read,) = validation.read_samples([text], {HELD_OUT_SAMPLE: [sample(0, 0.5, 1, 2, str(path))]})
    sheet = np.asarray(validation.draw_samples([read], PromptSpec("brief", 112)))
    assert (sheet[:, -10:] == 255).all() and (sheet != 255).any()
