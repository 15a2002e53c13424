"""The public face: labels in any order with prediction, settings, caches, results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.open_vocabulary import result as result_module
from seg_zero.open_vocabulary.aggregation import aggregate
from seg_zero.open_vocabulary.result import LabelledImage
from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
from seg_zero.open_vocabulary.settings import Settings
from seg_zero.open_vocabulary.windows import feature_map

LABELS = ["sky", "cat, kitten", "grass"]


@pytest.fixture
def segmenter(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenVocabularySegmenter:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return OpenVocabularySegmenter.from_pretrained(folder, device="cpu", templates="single", denoising=0.0)


def picture(width: int = 150, height: int = 100, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_a_picture_is_labelled_pixel_by_pixel(segmenter: OpenVocabularySegmenter) -> None:
    found = segmenter.segment(picture(), LABELS)
    assert found.label_map.shape == (100, 150) and set(np.unique(found.label_map)) <= {1, 2, 3}
    assert found.names == ["none", "sky", "cat", "grass"]
    full = found.probabilities()
    assert full.shape == (3, 100, 150) and np.allclose(full.sum(0), 1, atol=1e-5)
    assert np.array_equal(full.argmax(0), found.classes) and np.allclose(full.max(0), found.confidence, atol=1e-6)
    assert sum(found.areas().values()) == pytest.approx(1)
    assert np.allclose(found.heatmap("cat"), full[1], atol=1e-6)
    with pytest.raises(InputError, match="label 'kitten' is none of sky, cat, grass"):
        found.heatmap("kitten")


def test_the_steps_are_windows_aggregation_projection_and_softmax(segmenter: OpenVocabularySegmenter) -> None:
    found = segmenter.segment(picture(), LABELS)
    image = torch.from_numpy(np.array(picture())).permute(2, 0, 1)[None].float() / 255
    features = aggregate(feature_map(image, segmenter.encoder.features, 64, 32), 10.0)
    projected = segmenter.adaptor.summary(features.permute(0, 2, 3, 1))[0]
    text = segmenter.encode_texts(["sky", "cat", "kitten", "grass"])
    cosines = torch.nn.functional.cosine_similarity(projected[:, :, None], text, dim=-1)
    cosines = torch.stack([cosines[..., 0], cosines[..., 1:3].amax(-1), cosines[..., 3]])
    assert np.allclose(found.patch_probabilities, (100 * cosines).softmax(0).numpy(), atol=1e-4)


def test_labels_may_be_set_before_or_given_with_the_picture(segmenter: OpenVocabularySegmenter, folder: Path) -> None:
    with pytest.raises(InputError, match="there are no labels yet"):
        segmenter.segment(picture())
    given = segmenter.segment(picture(), LABELS)
    segmenter.set_labels(["cat"])
    segmenter.set_labels(LABELS)
    assert np.array_equal(segmenter.segment(picture()).label_map, given.label_map)
    at_once = OpenVocabularySegmenter.from_pretrained(
        folder, labels=LABELS, device="cpu", templates="single", denoising=0.0
    )
    assert np.array_equal(at_once.segment(picture()).label_map, given.label_map)


def test_other_labels_on_the_same_picture_cost_no_pass_of_the_backbone(segmenter: OpenVocabularySegmenter) -> None:
    passes: list[int] = []
    segmenter.encoder.backbone.register_forward_pre_hook(lambda *_: passes.append(1))
    forward = segmenter.encoder.features
    segmenter.encoder.features = lambda images: (passes.append(1), forward(images))[1]  # type: ignore[method-assign]
    segmenter.segment(picture(), LABELS)
    first = len(passes)
    again = segmenter.segment(picture(), ["grass", "red circle"])
    segmenter.change(Settings(templates="none", denoising=0.2, threshold=0.3))
    segmenter.segment(picture(), LABELS)
    assert first > 0 and len(passes) == first and again.names == ["none", "grass", "red circle"]
    segmenter.segment(picture(seed=1), LABELS)
    assert len(passes) == 2 * first
    segmenter.change(Settings(templates="single", scga_scaling=None))
    segmenter.segment(picture(seed=1), LABELS)
    assert len(passes) == 3 * first


def test_settings_change_the_result_and_can_be_taken_back(segmenter: OpenVocabularySegmenter) -> None:
    def patches(**settings: object) -> np.ndarray:
        segmenter.change(Settings(templates="single", denoising=0.0, **settings))  # type: ignore[arg-type]
        return segmenter.segment(picture(), LABELS).patch_probabilities

    default = patches()
    for settings in ({"scra_scaling": None}, {"scra_scaling": 500.0}, {"scga_scaling": None}, {"scga_scaling": 2.0}):
        assert not np.allclose(patches(**settings), default, atol=1e-4), settings
    assert patches(crop=0).shape != default.shape
    assert np.allclose(patches(), default, atol=1e-6)
    one_window = patches(crop=0, scga_when="multi_window")
    assert np.allclose(one_window, patches(crop=0, scga_scaling=None), atol=1e-6)
    assert np.allclose(patches(scga_when="multi_window"), default, atol=1e-6)


def test_denoising_and_threshold_leave_pixels_without_a_label(segmenter: OpenVocabularySegmenter) -> None:
    plain = segmenter.segment(picture(), LABELS)
    segmenter.change(Settings(templates="single", denoising=1.0))
    gone = segmenter.segment(picture(), LABELS)
    assert not gone.kept.any() and not gone.label_map.any() and gone.areas() == {"none": 1.0}
    middle = float(np.median(plain.confidence))
    segmenter.change(Settings(templates="single", denoising=0.0, threshold=middle))
    half = segmenter.segment(picture(), LABELS)
    assert np.array_equal(half.label_map == 0, plain.confidence < np.float32(middle))
    assert 0.3 < half.areas()["none"] < 0.7


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (700, 3)])
def test_tiny_and_narrow_pictures_are_labelled(segmenter: OpenVocabularySegmenter, size: tuple[int, int]) -> None:
    found = segmenter.segment(picture(*size), LABELS)
    assert found.label_map.shape == (size[1], size[0])


def test_long_pictures_are_shrunk(segmenter: OpenVocabularySegmenter) -> None:
    segmenter.change(Settings(templates="single", max_side=160))
    assert segmenter.prepare(picture(20_000, 10)).shape == (3, 1, 160)
    assert segmenter.segment(picture(20_000, 10), LABELS).label_map.shape == (10, 20_000)
    with pytest.raises(InputError, match="pixels; the limit is"):
        segmenter.segment(np.zeros((20_000, 20_000), dtype=np.uint8), LABELS)


def test_labels_in_other_scripts_and_many_of_them_are_taken(segmenter: OpenVocabularySegmenter) -> None:
    found = segmenter.segment(picture(40, 30), ["небо", "草地", *(f"thing {i}" for i in range(298))])
    assert found.patch_probabilities.shape[0] == 300
    assert found.label_image().mode == "I;16" and np.array_equal(np.asarray(found.label_image()), found.label_map)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 330}, "crop 330 is no multiple of 16"),
        ({"stride": 100}, "stride 100 is no multiple of 16"),
        ({"scra_scaling": 0.0}, "scra_scaling 0 is outside"),
        ({"scga_scaling": -1.0}, "scga_scaling -1 is outside"),
        ({"scga_when": "never"}, "scga_when 'never' is unknown"),
        ({"denoising": 2}, "denoising 2 is no probability"),
        ({"threshold": -0.1}, "threshold -0.1 is no probability"),
        ({"max_side": 3}, "max_side 3 is below 16"),
        ({"templates": "x"}, "templates 'x' are unknown"),
        ({"scra": 1}, "known are scra_scaling"),
        ({"labels": []}, "there is no label"),
        ({"adaptor": "dino_v2"}, "has no adaptor 'dino_v2'; it has clip, siglip2, sam"),
        ({"adaptor": "sam"}, "an adaptor of type 'sam' has no text tower"),
    ],
)
def test_bad_settings_are_named(folder: Path, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        OpenVocabularySegmenter.from_pretrained(folder, device="cpu", **settings)


def test_a_stride_above_the_crop_is_refused_where_both_are_known(segmenter: OpenVocabularySegmenter) -> None:
    assert Settings(crop=32).windows(64, 48) == (32, 32)
    with pytest.raises(InputError, match="stride 128 is above the crop 64"):
        segmenter.change(Settings(stride=128))


def test_probabilities_beyond_a_gigabyte_are_refused(
    segmenter: OpenVocabularySegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = segmenter.segment(picture(), LABELS)
    monkeypatch.setattr(result_module, "MAX_PROBABILITIES", 3 * 150 * 100 - 1)
    with pytest.raises(InputError, match="probabilities of 3 labels for 150x100 pixels are more than a gigabyte"):
        found.probabilities()


def test_pictures_of_a_result_show_what_it_holds(segmenter: OpenVocabularySegmenter) -> None:
    found: LabelledImage = segmenter.segment(picture(), LABELS)
    image = found.label_image()
    assert image.mode == "P" and np.array_equal(np.asarray(image), found.label_map)
    colours = image.convert("RGB")
    assert len({colours.getpixel((int(x), int(y))) for y, x in np.argwhere(found.label_map > 0)[::97]}) == len(
        {int(found.label_map[y, x]) for y, x in np.argwhere(found.label_map > 0)[::97]}
    )
    overlay, grid = found.overlay(), found.heatmaps()
    assert overlay.width > 150 * 3 and overlay.height >= 100 * 3 and grid.width > 900
    assert "150x100" in repr(found)
