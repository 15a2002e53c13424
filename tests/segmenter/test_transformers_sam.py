"""transformers' models: equal to the sam2 package for equal weights, and the SAM 3 tracker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.errors import InputError
from seg_zero.models.train_tiny_sam2 import HELD_OUT_SEED
from seg_zero.objects import PromptObject
from seg_zero.segmenter import Segmenter, load_segmenter
from seg_zero.segmenter.convert import _configuration, convert, main
from seg_zero.segmenter.files import TINY_FOLDER
from seg_zero.segmenter.sam2_package import build_model

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
OBJECTS = [PromptObject((3, 3, 20, 20)), PromptObject(None, ((4, 5),)), PromptObject((1, 2, 50, 30), ((9, 9), (20, 5)))]


def random_sam2(folder: Path) -> Path:
    """The architecture of a published SAM 2.1, small, with random weights: all that the embedded model lacks."""
    config = (TINY_FOLDER / "tiny_sam2.yaml").read_text()
    config += "  pred_obj_scores: true\n  pred_obj_scores_mlp: true\n  directly_add_no_mem_embed: true\n"
    folder.mkdir()
    (folder / "model.yaml").write_text(config)
    torch.manual_seed(3)
    model = build_model(folder / "model.yaml")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    torch.save({"model": model.state_dict()}, folder / "model.pt")
    return folder


@pytest.fixture(scope="module", params=["embedded", "published architecture"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Segmenter, Segmenter]:
    """The same weights by the sam2 package and by transformers."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("pair")
    source = TINY_FOLDER if request.param == "embedded" else random_sam2(folder / "sam2")
    assert main(["--segmenter", str(source), "--out", str(folder / "converted")]) == 0
    return load_segmenter(source, "cpu"), load_segmenter(folder / "converted", "cpu")


@pytest.mark.parametrize("kind", ["box", "point", "two points", "both", "mask", "mask and box"])
def test_same_weights_give_the_same_answers(pair: tuple[Segmenter, Segmenter], kind: str) -> None:
    for sample in make_samples(HELD_OUT_SEED, 5):
        prompts, masks = [], []
        for item in sample.scene.objects:
            box = item.prompt.box if "box" in kind or kind == "both" else None
            count = {"point": 1, "two points": 2, "both": 1}.get(kind, 0)
            prompts.append(PromptObject(box, item.prompt.points[:count]))
            masks.append(pair[0].mask_prompt(item.mask) if "mask" in kind else None)
        first, second = (one.segment(sample.scene.image, prompts, mask_prompts=masks, low_res=True) for one in pair)
        assert first.low_res is not None and second.low_res is not None
        # The last bits differ; a logit next to 0 may then fall on either side.
        assert (first.masks != second.masks).sum(axis=(1, 2)).max() <= 3
        assert np.abs(first.scores - second.scores).max() < 1e-4
        assert np.abs(first.low_res - second.low_res).max() < 1e-2


def test_same_weights_give_the_same_automatic_masks(tmp_path: Path) -> None:
    convert(None, tmp_path / "converted")
    pair = load_segmenter(None, "cpu"), load_segmenter(tmp_path / "converted", "cpu")
    image = next(iter(make_samples(HELD_OUT_SEED, 1))).scene.image
    first, second = (one.segment_everything(image, points_per_side=6) for one in pair)
    assert first.masks.shape == second.masks.shape and (first.masks != second.masks).mean() < 1e-3


def test_conversion_refuses_what_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(None, tmp_path / "one")
    with pytest.raises(InputError, match=r"--out .*one exists; give a new folder"):
        convert(None, tmp_path / "one")
    assert main(["--segmenter", str(tmp_path / "one"), "--out", str(tmp_path / "two")]) == 1
    assert "in the format of transformers already" in capsys.readouterr().err
    folder = tmp_path / "other"
    folder.mkdir()
    config = (TINY_FOLDER / "tiny_sam2.yaml").read_text()
    (folder / "model.yaml").write_text(config.replace("use_sigmoid: true", "use_sigmoid: false"))
    torch.save({"model": build_model(folder / "model.yaml").state_dict()}, folder / "model.pt")
    with pytest.raises(InputError, match=r"is no SAM2 that transformers can hold .*sigmoid"):
        convert(folder, tmp_path / "three")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


def vision() -> dict[str, Any]:
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "pretrain_image_size": 56,
        "patch_size": 14,
        "window_size": 2,
        "global_attn_indexes": [1],
    }
    sizes = [[16, 16], [8, 8], [4, 4]]
    return {
        "model_type": "sam3_vision_model",
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": sizes,
        "backbone_config": backbone,
    }


def decoder() -> dict[str, Any]:
    return {
        "prompt_encoder_config": {"hidden_size": 32, "image_size": 56, "patch_size": 14},
        "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32},
    }


@pytest.fixture(scope="module")
def sam3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SAM 3 tracker with random weights, saved by transformers."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sam3") / "tracker"
    config = transformers.Sam3TrackerConfig(vision_config=vision(), **decoder())
    transformers.Sam3TrackerModel(config).save_pretrained(folder)
    transformers.Sam3ImageProcessor().save_pretrained(folder)
    return folder


def test_sam3_tracker_segments(sam3: Path) -> None:
    segmenter = load_segmenter(sam3, "cpu")
    other = Image.new("RGB", (33, 21), "red")
    embeddings = segmenter.embed([IMAGE, other])
    assert [embedding.size for embedding in embeddings] == [IMAGE.size, other.size]
    together = segmenter.segment_all(embeddings, [OBJECTS, OBJECTS[:1]], low_res=True)
    assert [found.masks.shape for found in together] == [(3, 40, 60), (1, 21, 33)]
    for image, objects, found in zip((IMAGE, other), (OBJECTS, OBJECTS[:1]), together, strict=True):
        assert found.low_res is not None and found.low_res.shape == (len(objects), 16, 16)
        for index, item in enumerate(objects):
            alone = segmenter.segment(image, [item], low_res=True)
            assert alone.low_res is not None
            assert np.abs(alone.low_res[0] - found.low_res[index]).max() < 1e-4
            assert alone.scores[0] == pytest.approx(found.scores[index], abs=1e-5) and alone.scores[0] > 0
    assert segmenter.segment_everything(IMAGE, points_per_side=3).masks.shape[1:] == (40, 60)


def test_sam3_tracker_is_found_in_the_whole_model(sam3: Path, tmp_path: Path) -> None:
    """The published repository holds detector and tracker under one configuration, with prefixed names."""
    weights = {}
    for name, value in load_file(sam3 / "model.safetensors").items():
        name = name.removeprefix("tracker_model.")
        whole = name.startswith(("detector_model.", "tracker_neck."))
        weights[name if whole else f"tracker_model.{name}"] = value
    weights["detector_model.text_projection.weight"] = torch.zeros(2, 2)
    weights["tracker_model.memory_encoder.feature_projection.bias"] = torch.zeros(2)
    config = transformers.Sam3VideoConfig(
        tracker_config={"vision_config": vision(), "image_size": 56, **decoder()},
        detector_config={"vision_config": vision()},
    )
    config.save_pretrained(tmp_path)
    transformers.Sam3ImageProcessor().save_pretrained(tmp_path)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    whole_model, tracker = (load_segmenter(name, "cpu").segment(IMAGE, OBJECTS) for name in (tmp_path, sam3))
    assert (whole_model.masks == tracker.masks).all() and (whole_model.scores == tracker.scores).all()


def test_image_part_of_a_sam2_video_model_is_used(tmp_path: Path) -> None:
    """The published SAM 2 repositories are configured as video models."""
    arguments = _configuration(build_model(TINY_FOLDER / "tiny_sam2.yaml"))
    del arguments["object_score_token"]
    image_model = transformers.Sam2Model(transformers.Sam2Config(**arguments))
    arguments["mask_decoder_config"] = transformers.Sam2VideoMaskDecoderConfig(**arguments["mask_decoder_config"])
    transformers.Sam2VideoConfig(image_size=128, **arguments).save_pretrained(tmp_path)
    transformers.Sam2ImageProcessor().save_pretrained(tmp_path)
    weights = {name: value.clone() for name, value in image_model.state_dict().items()}
    weights["memory_encoder.feature_projection.bias"] = torch.zeros(2)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    segmenter = load_segmenter(tmp_path, "cpu")
    assert segmenter.segment(IMAGE, OBJECTS).masks.shape == (3, 40, 60)
