"""Policies of both supported families, with real model classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.policy import TINY_POLICY, TransformersPolicy, default_spec
from seg_zero.prompting import PromptSpec


@pytest.fixture(scope="module")
def tiny_qwen2_vl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised Qwen2-VL with the embedded policy's tokenizer and processor."""
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    folder = tmp_path_factory.mktemp("qwen2_vl")
    shutil.copytree(TINY_POLICY, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md", "*.safetensors"))
    ours = json.loads((TINY_POLICY / "config.json").read_text())
    tokens = {
        key: ours[key] for key in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    }
    config = Qwen2VLConfig(
        text_config={**ours["text_config"], "model_type": "qwen2_vl_text"},
        vision_config={"depth": 2, "embed_dim": 64, "num_heads": 2, "hidden_size": ours["text_config"]["hidden_size"]},
        **tokens,
    )
    torch.manual_seed(0)
    Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_qwen2_vl_generates(tiny_qwen2_vl: Path) -> None:
    policy = TransformersPolicy.from_pretrained(tiny_qwen2_vl, max_new_tokens=4)
    texts = policy.generate([Image.new("RGB", (50, 80))] * 2, ["the cup", "a longer question about a cup"])
    assert len(texts) == 2 and all(isinstance(text, str) for text in texts)


def test_answers_do_not_depend_on_the_batch() -> None:
    from seg_zero.data.synthetic import make_samples

    samples = list(make_samples(31, 7))
    images, questions = [s.scene.image for s in samples], [s.question.text for s in samples]
    alone = TransformersPolicy.from_pretrained(batch_size=1, max_new_tokens=96).generate(images, questions)
    together = TransformersPolicy.from_pretrained(batch_size=7, max_new_tokens=96).generate(images, questions)
    assert alone == together


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Ricky06662/Seg-Zero-7B", PromptSpec("single", 840)),
        ("Ricky06662/VisionReasoner-7B", PromptSpec("multi", 840)),
        ("Qwen/Qwen2.5-VL-3B-Instruct", PromptSpec("multi", 840)),
        (str(TINY_POLICY), PromptSpec("brief", 112)),
    ],
)
def test_prompt_settings_follow_the_model(model: str, expected: PromptSpec) -> None:
    assert default_spec(model) == expected
    assert default_spec(model, template="single", image_size=448) == PromptSpec("single", 448)


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(TINY_POLICY, folder)
    (folder / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(InputError, match="damaged"):
        TransformersPolicy.from_pretrained(folder)
