"""Refinement by real models: the embedded SAM2 on synthetic scenes, and SAM-1's decoder on RADIO's features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.radio import small_sam
from PIL import Image

from seg_zero.data.synthetic.scenes import make_scene
from seg_zero.encoders.sam_decoder import SamDecoder
from seg_zero.errors import InputError
from seg_zero.open_vocabulary.mask_sources import SegmenterSource
from seg_zero.open_vocabulary.refinement import RefinementSettings, refine
from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
from seg_zero.segmenter import load_segmenter

CPU = torch.device("cpu")


def test_the_embedded_sam2_redraws_edges_of_coarse_labels() -> None:
    scene = make_scene(np.random.default_rng(5), 112, shapes=3)
    truth = torch.zeros(112, 112, dtype=torch.long)
    for number, item in enumerate(scene.objects, start=1):
        truth[torch.from_numpy(item.mask)] = number
    exact = F.one_hot(truth).permute(2, 0, 1)[None].float()
    coarse = F.interpolate(F.avg_pool2d(exact, 16), size=(112, 112), mode="bilinear", align_corners=False)[0]
    labels = coarse.argmax(0)
    source = SegmenterSource(load_segmenter("tiny", "cpu"), scene.image)
    found = refine(coarse, labels, source, RefinementSettings(minimal_area=20))

    def iou(guess: torch.Tensor) -> float:
        return float(
            np.mean([((guess == n) & (truth == n)).sum() / ((guess == n) | (truth == n)).sum() for n in (1, 2, 3)])
        )

    before, after = iou(labels), iou(found.labels)
    assert found.kept >= 3 and before < 0.8 and after > before + 0.1, (before, after)


@pytest.fixture(scope="module")
def segmenter(folder: Path) -> OpenVocabularySegmenter:
    return OpenVocabularySegmenter.from_pretrained(folder, device="cpu", templates="none", denoising=0.0)


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))


def test_sam_refines_on_features_of_the_backbone(segmenter: OpenVocabularySegmenter, tmp_path: Path) -> None:
    sizes: list[tuple[int, ...]] = []
    features = segmenter.encoder.features
    segmenter.encoder.features = lambda images: (sizes.append(tuple(images.shape)), features(images))[1]  # type: ignore[method-assign]
    coarse = segmenter.segment(picture(), ["sky", "grass"])
    sizes.clear()
    sam = SamDecoder(small_sam(tmp_path / "sam"), CPU)
    segmenter.refine_with(sam, RefinementSettings(coarse_threshold=0.0, minimal_area=1, iou_threshold=0.0))
    found = segmenter.segment(picture(), ["sky", "grass"])
    segmenter.refine_with(None)
    assert sizes == [(1, 3, 672, 1024)]  # the longer side 1024, the other a multiple of 16, one pass
    assert found.refined is not None and found.probabilities().shape == (2, 60, 90)
    assert found.confidence.tolist() == coarse.confidence.tolist()  # thresholds see the coarse one
    assert segmenter.segment(picture(), ["sky", "grass"]).refined is None


def test_a_sam_of_another_width_is_named(segmenter: OpenVocabularySegmenter, tmp_path: Path) -> None:
    segmenter.refine_with(SamDecoder(small_sam(tmp_path / "sam", width=24), CPU))
    with pytest.raises(InputError, match="the sam adaptor gives 16 channels, this SAM takes 24"):
        segmenter.segment(picture(), ["sky", "grass"])
    segmenter.refine_with(None)
    del segmenter.encoder.adaptors["sam"]
    with pytest.raises(InputError, match="has no adaptor 'sam'; it has clip, siglip2"):
        segmenter.refine_with(SamDecoder(small_sam(tmp_path / "again"), CPU))
