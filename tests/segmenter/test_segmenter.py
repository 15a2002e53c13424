"""The segmenter with the embedded tiny SAM2."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seg_zero.data.synthetic.scenes import Sample, make_samples
from seg_zero.errors import InputError
from seg_zero.models.train_tiny_sam2 import HELD_OUT_SEED, iou_of_true_boxes
from seg_zero.objects import PromptObject
from seg_zero.segmenter.sam2_package import HF_MODEL_ID_TO_FILENAMES, TINY_FOLDER, Segmenter, build_model, find_files

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.from_pretrained(device="cpu")


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


def test_embedded_weights_load_alone() -> None:
    weights = torch.load(TINY_FOLDER / "model.pt", map_location="cpu", weights_only=True)["model"]
    build_model(TINY_FOLDER / "tiny_sam2.yaml").load_state_dict(weights)
    assert (TINY_FOLDER / "model.pt").stat().st_size < 10_000_000


def test_folder_loads_as_the_embedded_model(tmp_path: Path, segmenter: Segmenter, samples: Sequence[Sample]) -> None:
    for name in ("tiny_sam2.yaml", "model.pt"):
        (tmp_path / name).write_bytes((TINY_FOLDER / name).read_bytes())
    scene = samples[0].scene
    other = Segmenter.from_pretrained(tmp_path, "cpu").segment(scene.image, [scene.objects[0].prompt])
    assert (other.masks == segmenter.segment(scene.image, [scene.objects[0].prompt]).masks).all()


def test_published_file_finds_its_configuration(tmp_path: Path) -> None:
    for _, name in HF_MODEL_ID_TO_FILENAMES.values():
        checkpoint = tmp_path / name
        checkpoint.write_bytes(b"not weights")
        config, found = find_files(checkpoint)
        assert config.is_file() and config.parent.name == name.split("_")[0] and found == checkpoint
    # The architecture is built, then the contents are refused.
    with pytest.raises(InputError, match=r"hiera_tiny\.pt does not hold the SAM2 weights of sam2\.1_hiera_t\.yaml"):
        Segmenter.from_pretrained(tmp_path / "sam2.1_hiera_tiny.pt", "cpu")


def test_hub_id_is_fetched_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(repo_id: str, filename: str) -> str:
        raise OSError(f"no route to {repo_id}/{filename}")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(InputError, match=r"cannot get sam2_hiera_large\.pt of facebook/sam2-hiera-large"):
        Segmenter.from_pretrained("facebook/sam2-hiera-large")


def test_missing_and_wrong_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.pt.*neither a file, a folder nor a published id"):
        Segmenter.from_pretrained(tmp_path / "nowhere.pt")
    with pytest.raises(InputError, match=r"holds 0 files \*.yaml; it needs exactly one"):
        Segmenter.from_pretrained(tmp_path)
    config = tmp_path / "tiny_sam2.yaml"
    config.write_bytes((TINY_FOLDER / "tiny_sam2.yaml").read_bytes())
    with pytest.raises(InputError, match=r"holds 0 files \*.pt"):
        Segmenter.from_pretrained(tmp_path)
    checkpoint = tmp_path / "other.pt"
    contents: list[object] = [{"model": {}}, {"weights": {}}, [1, 2]]
    for content in contents:
        torch.save(content, checkpoint)
        with pytest.raises(InputError, match=r"other\.pt does not hold the SAM2 weights"):
            Segmenter.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="none of the published names"):
        Segmenter.from_pretrained(checkpoint)


@pytest.mark.parametrize(
    "text", ["a: 1", "- 1", "model: [", "model:\n  _target_: os.abort", "model:\n  _target_: sam2.none"]
)
def test_configuration_builds_sam2_and_nothing_else(tmp_path: Path, text: str) -> None:
    config = tmp_path / "model.yaml"
    config.write_text(text)
    with pytest.raises(InputError, match=r"model\.yaml is no SAM2 configuration"):
        build_model(config)


def test_image_must_be_rgb(segmenter: Segmenter, samples: Sequence[Sample]) -> None:
    with pytest.raises(InputError, match="mode L"):
        segmenter.embed([samples[0].scene.image.convert("L")])


@pytest.mark.parametrize("owner", ["", "hydra.initialize(version_base='1.1', config_path=None)"])
def test_hydra_is_left_as_found(owner: str) -> None:
    """A training process holds Hydra's global state; sam2 claims it on import."""
    code = f"""
import hydra
from hydra.core.global_hydra import GlobalHydra
{owner}
before = GlobalHydra.instance().hydra, hydra.version.getbase()
from seg_zero.segmenter.sam2_package import Segmenter
Segmenter.from_pretrained(device="cpu")
assert (GlobalHydra.instance().hydra, hydra.version.getbase()) == before
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
