"""RADSeg+: regions, prompts and the merge of masks, by the published values and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.golden import golden_files, load_golden, tensors

from seg_zero.errors import InputError
from seg_zero.open_vocabulary.refinement import RefinementSettings, Region, find_regions, refine
from seg_zero.open_vocabulary.sam_frame import SamFrameSource, input_size, longest_side


class StubDecoder:
    """The mask predictor of the golden files: a soft box, and a predicted IoU that depends on the box."""

    def __init__(self, data: dict[str, np.ndarray]) -> None:
        self.mode, self.shift, self.phase = str(data["iou_mode"]), float(data["edge_shift"]), float(data["iou_phase"])
        self.calls: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def __call__(
        self, boxes: torch.Tensor, points: torch.Tensor, prompt: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x0, y0, x1, y1 = (side[:, None, None] for side in boxes.T)
        x = 4 * (torch.arange(256) + 0.5)[None, None, :]
        y = 4 * (torch.arange(256) + 0.5)[None, :, None]
        inner = torch.minimum(torch.minimum(x - x0, x1 + self.shift - x), torch.minimum(y - y0, y1 + self.shift - y))
        wave = 0.9 + 0.1 * torch.sin((boxes @ torch.tensor([1.0, 2.0, 3.0, 4.0])) / 150 + self.phase)
        quality = {"mixed": wave, "all": torch.full_like(wave, 0.97), "none": torch.full_like(wave, 0.5)}[self.mode]
        self.calls.append((boxes, points, prompt, quality))
        return (0.05 * inner).clamp(-6, 6), quality


def settings_of(data: dict[str, np.ndarray]) -> RefinementSettings:
    return RefinementSettings(float(data["coarse_thresh"]), int(data["minimal_area"]), float(data["iou_thresh"]))


@pytest.mark.parametrize("name", golden_files("open_vocabulary", "refine_*"))
def test_refinement_meets_the_published_values(name: str) -> None:
    data = load_golden("open_vocabulary", name)
    probs, labels, refined, scores = tensors(data, "probs", "labels", "refined_labels", "R")
    decoder = StubDecoder(data)
    inside = input_size((labels.shape[1], labels.shape[2]))
    assert list(inside) == data["input_size"].tolist()
    source = SamFrameSource(decoder, inside, float(data["coarse_thresh"]), float(data["mask_coff"]))
    found = refine(probs, labels[0], source, settings_of(data))
    assert len(decoder.calls) == len(data["call_class"])
    for label, (boxes, points, prompt, quality) in zip(data["call_class"], decoder.calls, strict=True):
        call = f"call{label}_"
        assert torch.allclose(boxes, torch.from_numpy(data[call + "boxes"]), atol=1e-3)
        assert torch.allclose(points, torch.from_numpy(data[call + "points"]), atol=1e-3)
        assert torch.allclose(quality, torch.from_numpy(data[call + "iou"])[:, 0], atol=1e-5)
        assert prompt.shape == (1, 1, 256, 256)
        assert torch.allclose(prompt[0, 0, ::8, ::8], torch.from_numpy(data[call + "mask_sub"]), atol=1e-6)
        assert float(prompt.sum()) == pytest.approx(float(data[call + "mask_sum"]), rel=1e-4)
    assert (found.kept == 0) == bool(data["nothing_kept"])
    if found.kept:
        assert found.kept == len(data["kept_scores"])
    assert float((found.labels != refined[0]).float().mean()) <= 1e-3
    assert torch.allclose(found.scores, scores, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", golden_files("open_vocabulary", "refine_*"))
def test_regions_meet_the_published_values(name: str) -> None:
    data = load_golden("open_vocabulary", name)
    probs, labels = tensors(data, "probs", "labels")
    half = tuple(int(side) for side in data["half_size"])
    small = torch.nn.functional.interpolate(probs[None], size=half, mode="bilinear", align_corners=False)[0]
    small_labels = torch.nn.functional.interpolate(labels[None].float(), size=half, mode="nearest")[0, 0].long()
    found = find_regions(small, small_labels, settings_of(data))
    table = [[r.label, *r.box, *r.point, r.area, float(small[r.label].numpy()[r.mask].mean())] for r in found]
    assert np.allclose(np.array(table), data["regions"], atol=1e-4)


def coarse() -> tuple[torch.Tensor, torch.Tensor]:
    """Class 1 is a square and a single pixel that touches it at a corner; the rest is class 0."""
    labels = torch.zeros(40, 60, dtype=torch.long)
    labels[10:20, 10:30] = labels[20:22, 30:32] = 1
    probabilities = torch.stack([1.0 - labels * 0.8, labels * 0.8])
    return probabilities, labels


class Square:
    """Answers every region with one mask, whose IoU it is told."""

    def __init__(self, quality: float) -> None:
        self.quality, self.seen = quality, list[Region]()

    def masks(
        self, regions: list[Region], probability: torch.Tensor, half: tuple, size: tuple
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.seen += regions
        logits = torch.full((len(regions), *size), -4.0)
        logits[:, 8:22, 8:34] = 4.0
        quality = torch.tensor([self.quality if region.label else 0.1 for region in regions])
        return logits, quality


def test_corners_connect_and_small_regions_are_left_out() -> None:
    probabilities, labels = coarse()
    source = Square(0.95)
    refine(probabilities, labels, source, RefinementSettings(minimal_area=5))
    assert [(region.label, region.box, region.area) for region in source.seen] == [
        (0, (0, 0, 29, 19), 549), (1, (5, 5, 15, 10), 51),
    ]  # fmt: skip
    source.seen.clear()
    refine(probabilities, labels, source, RefinementSettings(minimal_area=52))
    assert [region.label for region in source.seen] == [0]


def test_trusted_masks_replace_labels_and_rejected_ones_keep_them() -> None:
    probabilities, labels = coarse()
    probabilities[1, 8:22, 8:34] = probabilities[1, 8:22, 8:34].clamp(min=0.3)
    found = refine(probabilities, labels, Square(0.95), RefinementSettings(minimal_area=5))
    assert (found.kept, found.failed) == (1, 1)
    assert (found.labels[8:22, 8:34] == 1).all() and found.labels.sum() == 14 * 26
    sigmoid = float(torch.tensor(4.0).sigmoid())
    assert float(found.scores[1, 14, 16]) == pytest.approx(0.8 * sigmoid)
    assert float(found.scores[0, 0, 0]) == 1.0  # inside the rejected region of class 0
    rejected = refine(probabilities, labels, Square(0.9), RefinementSettings(minimal_area=5))
    assert rejected.kept == 0 and rejected.labels is labels and rejected.scores is probabilities


def test_masks_are_on_the_device_of_the_probabilities() -> None:
    def decode(boxes: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(len(boxes), 256, 256), torch.ones(len(boxes))

    region = Region(0, (0, 0, 4, 4), (2, 2), 25, np.ones((8, 8), dtype=bool))
    source = SamFrameSource(decode, (1024, 1024))
    found = source.masks([region], torch.rand(8, 8, device="meta"), (8, 8), (16, 16))
    assert [part.device.type for part in found] == ["meta", "meta"]


def test_sizes_of_the_frame() -> None:
    assert input_size((160, 200)) == (816, 1024) and input_size((150, 110)) == (1024, 736)
    assert input_size((64, 64)) == (1024, 1024) and input_size((1, 500)) == (16, 1024)
    assert longest_side((60, 81), 1024) == (759, 1024)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coarse_threshold": 1.5}, "coarse_threshold 1.5 is no fraction"),
        ({"iou_threshold": -1}, "iou_threshold -1 is no fraction"),
        ({"minimal_area": 0}, "minimal_area 0 is below 1 pixel"),
    ],
)
def test_bad_settings_of_refinement_are_named(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RefinementSettings(**options)
