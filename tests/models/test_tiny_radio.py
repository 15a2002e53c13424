"""The embedded open-vocabulary model: it loads without a download, labels scenes, and is made by a seeded script."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seg_zero.data.label_maps import read_truth
from seg_zero.encoders.radio import TINY, TINY_FOLDER
from seg_zero.evaluation.semantic.presets import open_set
from seg_zero.models import train_tiny_radio
from seg_zero.models.muon import orthogonal
from seg_zero.models.tiny_radio_measure import LABELS, measure
from seg_zero.models.tiny_radio_scenes import (
    LEFT_OUT,
    PAIRS,
    held_out,
    label_sets,
    patch_fractions,
    write_scenes,
)
from seg_zero.models.train_tiny_radio import draw_batch, make_tokenizer, train
from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
from seg_zero.segmenter import load_segmenter


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_folder_is_small_and_complete() -> None:
    names = {str(path.relative_to(TINY_FOLDER)) for path in TINY_FOLDER.rglob("*") if path.is_file()}
    assert {"radio.json", "model.safetensors", "README.md", "text/config.json", "text/model.safetensors"} <= names
    assert sum((TINY_FOLDER / name).stat().st_size for name in names) < 4_000_000
    assert not [name for name in names if name.endswith((".pt", ".pth"))]


def test_held_out_scenes_are_labelled_by_text_with_all_of_the_method() -> None:
    segmenter = OpenVocabularySegmenter.from_pretrained(TINY, device="cpu")
    assert sum(p.numel() for p in segmenter.encoder.backbone.parameters()) < 3_000_000
    segmenter.refine_with(load_segmenter("tiny", "cpu"))
    found = measure(segmenter, held_out(60))  # as in the card: of fewer, many have a pair once or never
    assert found.result()["mIoU"] >= 0.70, found.result()
    other = segmenter.segment(Image.fromarray(held_out(1)[0].image), ["background", "shape, thing"])
    assert other.names == ["none", "background", "shape"]


def test_pairs_that_are_left_out_are_never_named_in_training() -> None:
    for texts, lookup in label_sets():
        assert not set(texts) & set(LEFT_OUT)
        assert all(lookup[1 + PAIRS.index(pair)] == -1 for pair in LEFT_OUT)
        assert lookup[0] == 0 and lookup.max() == len(texts) - 1
    assert set(LEFT_OUT) < set(LABELS)


def test_a_patch_has_the_fractions_of_what_covers_it() -> None:
    pairs = np.zeros((2, 4, 8), np.uint8)
    pairs[0, 0, :4] = 1  # a quarter of the first patch
    pairs[0, :2, 4:] = 2  # half of the second
    lookup = np.array([0, 1, 2, -1])
    assert patch_fractions(pairs, lookup, 4)[0].tolist() == [[[0.75, 0.25, 0], [0.5, 0, 0.5]]]
    pairs[1, 3, 7] = 3  # is not scored
    assert patch_fractions(pairs, lookup, 4)[1].tolist() == [[[1, 0, 0], [0, 0, 0]]]


def test_scenes_become_a_data_set(tmp_path: Path) -> None:
    write_scenes(tmp_path, 2)
    found = open_set("folder", tmp_path, labels=(tmp_path / "labels.txt").read_text().splitlines())
    assert found.labels == LABELS and len(found.listing.pairs) == 2
    truth = read_truth(found.listing.pairs[1].truth, found.listing.table)
    assert np.array_equal(truth, held_out(2)[1].pairs)


def test_the_tokenizer_knows_the_words_and_spells_others() -> None:
    tokenizer = make_tokenizer()
    assert len(tokenizer.tokenize("red circle")) == 2 and len(tokenizer.tokenize("zebra")) == 5
    assert tokenizer.unk_token_id not in tokenizer("zebra")["input_ids"]


def test_updates_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((8, 24), (24, 8), (16, 16)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert values.max() < 1.3 and values.median() > 0.6


def test_training_is_seeded_and_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"POOL": 4, "CROPS": ((64, 4), (96, 2)), "DRAWN": (112,), "SIDES": (96,), "WARM_UP_STEPS": 1}
    for name, value in small.items():
        monkeypatch.setattr(train_tiny_radio, name, value)
    train_tiny_radio.pool_scene.cache_clear()
    images, pairs, captions = draw_batch(2, 0)
    assert images.shape == (2, 3, 64, 64) and pairs.shape == (2, 64, 64) and len(captions) == 2
    assert torch.equal(draw_batch(2, 0)[0], images) and not torch.equal(draw_batch(2, 1)[0], images)
    assert draw_batch(3, 0)[0].shape == (1, 3, 96, 96)
    assert train(tmp_path / "whole", 2, None) == 2 and not (tmp_path / "whole/progress.pt").exists()
    clock = count(0, 30)
    with monkeypatch.context() as patched:
        patched.setattr(train_tiny_radio.time, "monotonic", lambda: float(next(clock)))
        assert train(tmp_path / "parts", 2, 1.0) == 1 and (tmp_path / "parts/progress.pt").is_file()
    assert train(tmp_path / "parts", 2, None) == 2
    for name in ("model.safetensors", "text/model.safetensors", "radio.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
