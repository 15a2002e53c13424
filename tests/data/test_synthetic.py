"""Synthetic scenes, their questions and their rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seg_zero.data.rows import write_rows
from seg_zero.data.source import open_rows
from seg_zero.data.synthetic.rows import HELD_OUT_SEED, TRAIN_SEED, WARM_UP_SEED, write_split
from seg_zero.data.synthetic.scenes import KINDS, make_sample, make_samples
from seg_zero.errors import InputError
from seg_zero.masks import decode_mask, encode_mask, mask_to_prompt_object


def test_a_sample_depends_on_its_seed_and_index_only() -> None:
    alone, (*_, last) = make_sample(5, 17), make_samples(5, 18)
    assert alone.question == last.question
    assert np.array_equal(alone.scene.image, last.scene.image)


def test_objects_are_disjoint_and_boxes_and_points_are_exact() -> None:
    for sample in make_samples(9, 24):
        total = np.zeros((112, 112), dtype=int)
        for item in sample.scene.objects:
            total += item.mask
            ys, xs = np.nonzero(item.mask)
            assert item.prompt.box == (xs.min(), ys.min(), xs.max(), ys.max())
            assert all(item.mask[int(y), int(x)] for x, y in item.prompt.points)
        assert total.max() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_questions_have_the_targets_their_kind_promises(kind: str) -> None:
    for sample in make_samples(11, 12, kinds=[kind]):
        count = len(sample.question.targets)
        assert count == 0 if kind == "none" else count in (2, 3) if kind == "plural" else count == 1
        assert sample.mask.any() == (kind != "none")


def test_attribute_questions_match_their_target_alone() -> None:
    for sample in make_samples(13, 30, kinds=["attr"]):
        words = sample.question.text.split()[1:]
        matching = [
            i for i, o in enumerate(sample.scene.objects) if all(w in (o.colour, o.shape, "shape") for w in words)
        ]
        assert tuple(matching) == sample.question.targets


def test_splits_share_no_picture() -> None:
    seeds = (WARM_UP_SEED, TRAIN_SEED, HELD_OUT_SEED)
    pictures = {make_sample(seed, i).scene.image.tobytes() for seed in seeds for i in range(20)}
    assert len(pictures) == 60


def test_points_are_deep_inside_and_apart() -> None:
    bar = np.zeros((20, 60), dtype=bool)
    bar[5:14, 10:50] = True
    item = mask_to_prompt_object(bar)
    assert item.box == (10.0, 5.0, 49.0, 13.0)
    (x1, y1), (x2, y2) = item.points
    assert y1 == y2 == 9 and abs(x1 - x2) >= 10
    with pytest.raises(ValueError, match="empty"):
        mask_to_prompt_object(np.zeros((4, 4), dtype=bool))


def test_masks_survive_run_length_encoding() -> None:
    mask = make_sample(3, 0).mask
    assert np.array_equal(decode_mask(encode_mask(mask)), mask)


def test_rows_survive_parquet(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.parquet"
    assert write_split(path, seed=4, count=7) == 7
    rows = open_rows(path)[:]
    sample = make_sample(4, 0)
    assert [row.id for row in rows][:2] == ["synthetic-4-000000", "synthetic-4-000001"]
    assert rows[0].problem == sample.question.text
    assert np.array_equal(rows[0].truth(), sample.mask)
    assert np.array_equal(rows[0].image(), sample.scene.image)
    assert len(rows[4].objects()) == len(make_sample(4, 4).question.targets)
    assert write_rows(path, rows[:2]) == 2
    assert list(tmp_path.rglob("*.tmp")) == []


def test_bad_data_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_rows(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="not parquet"):
        open_rows(tmp_path / "text.parquet")
