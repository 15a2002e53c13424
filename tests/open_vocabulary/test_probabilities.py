"""Features to probabilities and labels: the published values, synonyms, thresholds, many classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.golden import StubBackbone, golden_files, load_golden, tensors, wave_image

from seg_zero.open_vocabulary import probabilities as module
from seg_zero.open_vocabulary.aggregation import aggregate
from seg_zero.open_vocabulary.probabilities import (
    PixelLabels,
    class_probabilities,
    full_probabilities,
    kept_classes,
    pixel_labels,
)
from seg_zero.open_vocabulary.windows import feature_map


def projected(features: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    return torch.einsum("bdhw,ed->behw", features, head)


def same_labels(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """All but a thousandth of the pixels; ties are decided by rounding."""
    return float((found != wanted).float().mean()) <= 1e-3


@pytest.mark.parametrize("at_once", [1, 1 << 24])
@pytest.mark.parametrize("name", golden_files("open_vocabulary", "post_*"))
def test_post_processing_meets_the_published_values(name: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", at_once)
    data = load_golden("open_vocabulary", name)
    features, text, head, patch = tensors(data, "feat", "text", "head_weight", "patch_probs")
    if data["has_scga"]:
        directions = F.normalize(features.flatten(2), dim=1)
        means = directions.mean(dim=2).square().sum(dim=1).mean().expand(len(features))
        features = aggregate(features, float(data["scga_scaling"]), means=means)
    found = class_probabilities(projected(features, head), text)
    assert torch.allclose(found, patch, atol=1e-5, rtol=1e-4)
    size = tuple(int(side) for side in data["orig_size"])
    kept = kept_classes(found, size, float(data["denoise"]))  # over the batch, as published
    assert kept.tolist() == (data["max_per_class_before_denoise"] >= data["denoise"]).tolist()
    labels = pixel_labels(found, size, kept)
    ignoring, plain = tensors(data, "labels_with_ignore", "labels_no_ignore")
    assert same_labels(labels.labels, plain[:, 0])
    assert same_labels(labels.with_ignored(float(data["pred_thresh"])), ignoring[:, 0])
    with_ignore, without = tensors(data, "probs_with_ignore", "probs_no_ignore")
    assert torch.allclose(full_probabilities(found, size, kept), without, atol=1e-5, rtol=1e-4)
    assert torch.allclose(full_probabilities(found, size, kept, ignore_channel=True), with_ignore, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", golden_files("open_vocabulary", "end_to_end_*"))
def test_image_to_labels_meets_the_published_values(name: str) -> None:
    data = load_golden("open_vocabulary", name)
    text, head, wanted, probs, labels = tensors(data, "text", "head_weight", "feature_map", "probs", "labels")
    image = wave_image(*(int(side) for side in data["size"]), phase=float(data["phase"]))
    features = aggregate(feature_map(image, StubBackbone(data), int(data["crop"]), int(data["stride"])), 10.0)
    assert torch.allclose(features, wanted, atol=1e-5, rtol=1e-4)
    patch = class_probabilities(projected(features, head), text)
    size = tuple(int(side) for side in data["orig_size"])
    kept = kept_classes(patch, size, float(data["denoise"]))
    assert torch.allclose(full_probabilities(patch, size, kept, ignore_channel=True), probs, atol=1e-5, rtol=1e-4)
    found = pixel_labels(patch, size, kept).with_ignored(float(data["pred_thresh"]))
    assert same_labels(found, labels[:, 0])


def test_the_class_whose_text_equals_the_feature_wins_at_temperature_100() -> None:
    text = torch.eye(3)
    features = text.T.reshape(1, 3, 1, 3) * 5
    found = class_probabilities(features, text)
    assert found.argmax(1).flatten().tolist() == [0, 1, 2]
    angle = torch.tensor([[1.0, 0.0], [np.cos(0.1), np.sin(0.1)]])
    two = class_probabilities(torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1), angle).flatten()
    assert float(two[0] / two[1]) == pytest.approx(np.exp(100 * (1 - np.cos(0.1))), rel=1e-4)


def test_synonyms_share_a_channel_which_takes_the_nearest_of_them() -> None:
    torch.manual_seed(0)
    text, features = torch.randn(4, 8), torch.randn(2, 8, 3, 3)
    merged = class_probabilities(features, text, [0, 1, 1, 2])
    cosines = torch.einsum("behw,ke->bkhw", F.normalize(features, dim=1), F.normalize(text, dim=-1))
    wanted = torch.stack([cosines[:, 0], cosines[:, 1:3].amax(1), cosines[:, 3]], dim=1)
    assert torch.allclose(merged, (100 * wanted).softmax(1), atol=1e-5)
    # A synonym that is a copy changes nothing: a class gains nothing by being named more often.
    copied = class_probabilities(features, torch.cat([text, text[:1]]), [0, 1, 2, 3, 0])
    assert torch.allclose(copied, class_probabilities(features, text), atol=1e-5)


def test_denoising_drops_exactly_the_classes_below_the_threshold() -> None:
    patch = torch.tensor([0.5, 0.4999, 0.0001]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert kept_classes(patch, (4, 4), 0.5).tolist() == [True, False, False]
    assert kept_classes(patch, (4, 4), 0.0).tolist() == [True, True, True]


def test_pixels_at_the_threshold_keep_their_label() -> None:
    labels = PixelLabels(torch.tensor([[[0, 1, 2]]]), torch.tensor([[[0.3, 0.29, 0.5]]]))
    assert labels.with_ignored(0.3).flatten().tolist() == [1, 0, 3]


def test_with_every_class_dropped_labels_are_the_first_and_confidence_is_0() -> None:
    found = pixel_labels(torch.rand(1, 3, 2, 2), (4, 4), torch.zeros(3, dtype=torch.bool))
    assert not found.labels.any() and not found.confidence.any() and not found.with_ignored(0.1).any()
