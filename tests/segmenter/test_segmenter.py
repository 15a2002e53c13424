"""Both implementations of the segmenter with the embedded tiny SAM2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from seg_zero.data.synthetic.scenes import Sample, make_samples
from seg_zero.errors import InputError
from seg_zero.models.train_tiny_sam2 import HELD_OUT_SEED, iou_of_true_boxes
from seg_zero.objects import PromptObject
from seg_zero.segmenter import Segmenter, load_segmenter
from seg_zero.segmenter.convert import convert

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["sam2", "transformers"])
def segmenter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    """The embedded weights in each format."""
    if request.param == "sam2":
        return load_segmenter(device="cpu")
    folder = tmp_path_factory.mktemp("converted") / "sam2"
    convert(None, folder)
    return load_segmenter(folder, "cpu")


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(make_samples(HELD_OUT_SEED, 30))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_true_boxes_give_the_objects(segmenter: Segmenter, samples: Sequence[Sample]) -> None:
    assert iou_of_true_boxes(segmenter, samples) >= 0.9


def test_points_alone_give_the_objects(segmenter: Segmenter, samples: Sequence[Sample]) -> None:
    found = []
    for sample in samples[:10]:
        (embedding,) = segmenter.embed([sample.scene.image])
        for item in sample.scene.objects:
            result = segmenter.segment_embedded(embedding, [PromptObject(None, item.prompt.points[:1])])
            found.append(iou(result.masks[0], item.mask))
    assert np.mean(found) >= 0.8


def test_the_mask_follows_the_prompt(segmenter: Segmenter, samples: Sequence[Sample]) -> None:
    """A box on another object must yield that object: otherwise a wrong policy would look right."""
    for sample in samples:
        objects = sample.scene.objects
        found = segmenter.segment(sample.scene.image, [item.prompt for item in objects])
        overlap = np.array([[iou(mask, item.mask) for item in objects] for mask in found.masks])
        assert (overlap.argmax(axis=1) == np.arange(len(objects))).all()
        assert overlap[~np.eye(len(objects), dtype=bool)].max() < 0.2


def test_result_does_not_depend_on_company(segmenter: Segmenter, samples: Sequence[Sample]) -> None:
    scene = samples[0].scene
    prompts = [item.prompt for item in scene.objects]
    together = segmenter.segment(scene.image, prompts)
    assert together.masks.shape == (len(prompts), scene.image.height, scene.image.width)
    assert together.masks.dtype == bool and together.scores.dtype == np.float32
    assert (together.union == np.logical_or.reduce(together.masks)).all()
    # Another image in the encoder's batch and other prompts in the decoder's change rounding alone.
    embedding, _ = segmenter.embed([scene.image, samples[1].scene.image])
    for index, prompt in enumerate(prompts):
        alone = segmenter.segment_embedded(embedding, [prompt])
        assert (alone.masks[0] != together.masks[index]).mean() < 1e-3
        assert alone.scores[0] == pytest.approx(together.scores[index], abs=1e-4)


def test_many_prompts_of_mixed_shapes_keep_their_order(segmenter: Segmenter, samples: Sequence[Sample]) -> None:
    """More prompts than one decoder batch holds; boxes, points and both, in turn."""
    scene = samples[0].scene
    truth = scene.objects[0].prompt
    kinds = [truth, PromptObject(truth.box), PromptObject(None, truth.points[:1]), PromptObject(None)]
    result = segmenter.segment(scene.image, [kinds[i % 4] for i in range(60)])
    assert [bool(mask.any()) for mask in result.masks] == [i % 4 != 3 for i in range(60)]
    for i in range(60):
        assert (result.masks[i] != result.masks[i % 4]).mean() < 1e-3


def test_no_objects_give_an_empty_union(segmenter: Segmenter, samples: Sequence[Sample]) -> None:
    result = segmenter.segment(samples[0].scene.image, [])
    assert result.masks.shape == (0, 112, 112) and result.scores.shape == (0,)
    assert result.union.shape == (112, 112) and not result.union.any()


def test_any_image_size(segmenter: Segmenter) -> None:
    for width, height in ((200, 90), (1, 1), (3, 400)):
        result = segmenter.segment(Image.new("RGB", (width, height)), [PromptObject((0, 0, width, height))])
        assert result.masks.shape == (1, height, width)


@pytest.mark.parametrize(
    "item",
    [
        PromptObject(None),
        PromptObject((NAN, 10, 50, 50)),
        PromptObject((10, 10, INF, 50)),
        PromptObject((10, 10, 10**400, 50)),
        PromptObject((30, 30, 30, 30)),
        PromptObject((10, 30, 50, 30)),
        PromptObject((200, 200, 300, 300)),
        PromptObject((-50, 10, -20, 60)),
        PromptObject(None, ((-5, 20),)),
        PromptObject(None, ((20, 113), (NAN, 3), (10**400, 1))),
        PromptObject((500, 0, 600, 9), ((999, 999),)),
    ],
)
def test_unusable_prompt_gives_an_empty_mask(
    segmenter: Segmenter, samples: Sequence[Sample], item: PromptObject
) -> None:
    scene = samples[0].scene
    result = segmenter.segment(scene.image, [item, scene.objects[0].prompt])
    assert not result.masks[0].any() and result.scores[0] == 0
    assert iou(result.masks[1], scene.objects[0].mask) > 0.8


def test_repairable_prompt_is_repaired(segmenter: Segmenter, samples: Sequence[Sample]) -> None:
    scene = samples[0].scene
    box = scene.objects[0].prompt.box
    assert box is not None
    x1, y1, x2, y2 = box
    point = scene.objects[0].prompt.points[0]
    whole = PromptObject((0.0, 0.0, 112.0, 112.0))
    pairs = [
        (PromptObject((x2, y2, x1, y1)), PromptObject(box)),  # corners swapped
        (PromptObject((-1e5, -7, 1e5, 900)), whole),  # clipped
        (PromptObject(box, ((-1, -1), (NAN, 0))), PromptObject(box)),  # the box is enough
        (PromptObject((9, 9, 9, 9), (point,)), PromptObject(None, (point,))),  # the point is enough
    ]
    (embedding,) = segmenter.embed([scene.image])
    for given, same in pairs:
        result = segmenter.segment_embedded(embedding, [given, same])
        assert (result.masks[0] != result.masks[1]).mean() < 1e-3
        assert result.scores[0] == pytest.approx(result.scores[1], abs=1e-4) and result.scores[0] > 0


def test_image_must_be_rgb(segmenter: Segmenter, samples: Sequence[Sample]) -> None:
    with pytest.raises(InputError, match="mode L"):
        segmenter.embed([samples[0].scene.image.convert("L")])
