"""SAM-1's decoder on features of another backbone: against transformers' own model, and the published mask prompt."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.radio import small_sam
from safetensors.torch import load_file, save_file
from transformers import SamModel

from seg_zero.encoders.sam_decoder import SamDecoder
from seg_zero.errors import InputError

CPU = torch.device("cpu")
BOXES = torch.tensor([[100.0, 120.0, 400.0, 500.0], [0.0, 0.0, 1023.0, 700.0]])
POINTS = torch.tensor([[[200.0, 300.0]], [[10.0, 20.0]]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_sam(tmp_path_factory.mktemp("sam") / "sam")


def prompt() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(1, 1, 256, 256) * 0.005


def test_prompts_give_what_transformers_gives(folder: Path) -> None:
    sam, model = SamDecoder(folder, CPU), SamModel.from_pretrained(folder).eval()
    torch.manual_seed(0)
    features = torch.randn(1, 16, 64, 40)
    embedding = sam.embedding(features)
    padded = torch.nn.functional.pad(features, (0, 24))
    assert torch.allclose(embedding, model.vision_encoder.neck(padded.permute(0, 2, 3, 1)), atol=1e-5)
    logits, quality = sam.decoder(embedding)(BOXES, POINTS, prompt())
    with torch.no_grad():
        wanted = model(
            image_embeddings=embedding, input_boxes=BOXES[None], input_points=POINTS[None],
            input_labels=torch.ones(1, 2, 1, dtype=torch.int), input_masks=prompt(), multimask_output=False,
        )  # fmt: skip
    assert torch.allclose(logits, wanted.pred_masks[0, :, 0], atol=1e-4)
    assert torch.allclose(quality, wanted.iou_scores[0, :, 0], atol=1e-5)


def test_the_released_prompt_is_normalised_over_its_height(folder: Path) -> None:
    fixed, released = SamDecoder(folder, CPU), SamDecoder(folder, CPU, "released")
    embed = released._prompts.mask_embed
    x = prompt()[0]  # of three dimensions, as the published code gives it
    for conv, norm in ((embed.conv1, embed.layer_norm1), (embed.conv2, embed.layer_norm2)):
        x = conv(x)
        mean = x.mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt((x - mean).pow(2).mean(1, keepdim=True) + norm.eps)
        x = embed.activation(norm.weight[:, None, None] * x + norm.bias[:, None, None])
    assert torch.allclose(released._dense(prompt())[0], embed.conv3(x), atol=1e-5)
    assert not torch.allclose(released._dense(prompt()), fixed._dense(prompt()), atol=1e-3)


def test_bad_models_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="compat 'old' is unknown; choose one of fixed, released"):
        SamDecoder(folder, CPU, "old")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot be loaded"):
        SamDecoder(tmp_path, CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weight: weight[:-1].clone(), "1 weight has another shape than its config"),
        (lambda weight: None, r"lacks weights \(mask_decoder\.iou_token\.weight\)"),
    ],
    ids=["another shape", "missing"],
)
def test_weights_that_do_not_fit_are_named(
    change: Callable[[torch.Tensor], torch.Tensor | None], message: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "sam")
    weights = load_file(tmp_path / "sam" / "model.safetensors")
    changed = change(weights.pop("mask_decoder.iou_token.weight"))
    weights |= {} if changed is None else {"mask_decoder.iou_token.weight": changed}
    save_file(weights, tmp_path / "sam" / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=message):
        SamDecoder(tmp_path / "sam", CPU)
