"""torch.hub's entry: the original's quickstart, its methods and shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.radio import SMALL, TEXT_WIDTH, small_sam

from seg_zero.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["sky", "cat, kitten", "grass"]


@pytest.fixture
def encoder_of(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def make(**options: Any) -> Any:
        sizes = {"slide_crop": 64, "slide_stride": 32, "device": "cpu"}
        return torch.hub.load(
            str(ROOT), "radseg_encoder", source="local", model_version=str(folder), lang_model="siglip2",
            scra_scaling=10.0, scga_scaling=10.0, **{**sizes, **options},
        )  # fmt: skip

    return make


def images() -> torch.Tensor:
    return torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))


def test_features_are_aligned_and_compared_by_the_user(encoder_of: Any) -> None:
    encoder = encoder_of()
    features = encoder.encode_image_to_feat_map(images())
    assert features.shape == (2, SMALL.embed_dim, 6, 8)
    aligned = encoder.align_spatial_features_with_language(features)
    labels, prompts = encoder.encode_labels(["sky", "grass"]), encoder.encode_prompts(["sky", "grass"])
    assert aligned.shape == (2, TEXT_WIDTH, 6, 8) and labels.shape == prompts.shape == (2, TEXT_WIDTH)
    assert not torch.allclose(labels, prompts, atol=1e-3)  # templates
    assert torch.allclose(encoder.encode_image_to_feat_map(images()[1:]), features[1:], atol=1e-5)
    direct = encoder_of(return_radio_features=False)
    assert torch.allclose(direct.encode_image_to_feat_map(images()), aligned, atol=1e-5)
    assert direct.align_spatial_features_with_language(aligned) is aligned
    with pytest.raises(InputError, match="return_preds needs an encoder made with predict=True"):
        encoder.encode_image_to_feat_map(images(), return_preds=True)


def test_windows_are_the_backbones_own_unless_given(encoder_of: Any) -> None:
    found = encoder_of(slide_crop=None, slide_stride=None).encode_image_to_feat_map(images())
    assert torch.allclose(found, encoder_of().encode_image_to_feat_map(images()), atol=1e-5)
    with pytest.raises(InputError, match="crop 272 is above 256, the longest side that this backbone takes"):
        torch.hub.load(str(ROOT), "radseg_encoder", source="local", model_version="tiny", slide_crop=272)


def test_classes_may_be_given_at_once_or_by_encoding_labels(encoder_of: Any) -> None:
    options = {"predict": True, "prompt_denoising_thresh": 0.0}
    at_once, later = encoder_of(classes=CLASSES, **options), encoder_of(**options)
    with pytest.raises(InputError, match="there are no classes yet"):
        later.encode_image_to_feat_map(images())
    one_hot = later.encode_labels(CLASSES)
    assert one_hot.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert later.encode_labels(["grass"]).tolist() == [[0, 0, 0, 1]] and later.num_classes == 4
    assert later.cat_index_to_name == {0: "", 1: "sky", 2: "cat, kitten", 3: "grass"}
    assert later.cat_name_to_index["grass"] == 3
    first = at_once.encode_image_to_feat_map(images(), return_preds=True)
    second = later.encode_image_to_feat_map(images(), return_preds=True)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_predictions_have_an_ignored_class_unless_it_is_left_out(encoder_of: Any) -> None:
    encoder = encoder_of(predict=True, classes=CLASSES, prompt_denoising_thresh=0.0, prediction_thresh=0.5)
    probabilities, labels = encoder.encode_image_to_feat_map(images(), orig_img_size=(50, 70), return_preds=True)
    assert probabilities.shape == (2, 4, 50, 70) and labels.shape == (2, 1, 50, 70)
    assert not probabilities[:, 0].any()
    assert torch.equal(labels == 0, probabilities.amax(1, keepdim=True) < 0.5)
    assert encoder.align_spatial_features_with_language(probabilities) is probabilities
    plain, from_zero = encoder.encode_image_to_feat_map(images(), (50, 70), return_preds=True, ignore_label=False)
    assert torch.equal(plain, probabilities[:, 1:]) and torch.equal(from_zero[:, 0], plain.argmax(1))
    assert torch.equal(encoder.encode_image_to_feat_map(images(), (50, 70)), probabilities)


def test_prompts_mode_takes_texts_as_they_are(encoder_of: Any) -> None:
    labels = encoder_of(predict=True, classes=CLASSES).encode_image_to_feat_map(images())
    prompts = encoder_of(predict=True, classes=CLASSES, text_query_mode="prompts").encode_image_to_feat_map(images())
    assert not torch.allclose(labels, prompts, atol=1e-3)
    with pytest.raises(InputError, match="text_query_mode 'words' is unknown"):
        encoder_of(text_query_mode="words")


def test_refinement_is_that_of_sam(encoder_of: Any, tmp_path: Path) -> None:
    options = {"predict": True, "classes": ["sky", "grass"], "prompt_denoising_thresh": 0.0}
    sam = {"sam_refinement": True, "sam_ckpt": small_sam(tmp_path / "sam")}
    refined = encoder_of(**options, **sam, coarse_thresh=0.0, minimal_area=1, sam_iou_thresh=0.0)
    probabilities, labels = refined.encode_image_to_feat_map(images()[:1], return_preds=True)
    assert probabilities.shape == (1, 3, 96, 128) and labels.shape == (1, 1, 96, 128)
    assert set(labels.unique().tolist()) <= {1, 2}


def test_sizes_are_multiples_of_a_patch(encoder_of: Any) -> None:
    encoder = encoder_of()
    assert encoder.is_compatible_size(96, 128) and not encoder.is_compatible_size(96, 130)
    assert encoder.get_nearest_size(95, 130) == (96, 128)
    assert F.interpolate(images(), encoder.get_nearest_size(95, 130)).shape[-2:] == (96, 128)
