"""The tiny policy: a real ``Qwen2_5_VLForConditionalGeneration`` with about four million parameters.

Heads and key-value heads are even in number, so that vLLM can split the model over two workers; heads
are 64 wide, a size that vLLM's CPU attention supports.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from seg_zero.models.tiny_policy_tokenizer import IMAGE_SIZE, MERGE_SIZE, PATCH_SIZE, number_ids
from seg_zero.prompting import PromptSpec

WIDTH = 256  # of the language model
SPEC = PromptSpec(template="brief", image_size=IMAGE_SIZE)


def make_config(processor: Qwen2_5_VLProcessor) -> Qwen2_5_VLConfig:
    token = processor.tokenizer.convert_tokens_to_ids
    ends = {"eos_token_id": token("<|im_end|>"), "pad_token_id": token("<|endoftext|>"), "bos_token_id": None}
    text = {
        "vocab_size": len(processor.tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        # Prompts and answers are short: a small base spreads the rotary frequencies over them.
        "rope_parameters": {"rope_type": "default", "rope_theta": 20.0, "mrope_section": [8, 12, 12]},
        "tie_word_embeddings": True,
        **ends,
    }
    vision = {
        "depth": 4,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_heads": 4,
        "out_hidden_size": WIDTH,
        "patch_size": PATCH_SIZE,
        "spatial_merge_size": MERGE_SIZE,
        "temporal_patch_size": 2,
        "window_size": IMAGE_SIZE,  # one window holds the whole image
        "fullatt_block_indexes": [1, 3],
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
        **ends,
    )


def _fourier_rows(values: int, width: int, scale: float, generator: torch.Generator) -> torch.Tensor:
    """Embeddings of 0..values-1, ``values`` x ``width``: close numbers get close vectors."""
    periods = torch.logspace(math.log10(4.0), math.log10(2.5 * values), 24)
    phase = 2 * math.pi * torch.arange(values)[:, None] / periods
    features = torch.cat([phase.cos(), phase.sin()], dim=1)
    rows = features @ torch.randn(features.shape[1], width, generator=generator)
    return rows * (scale / rows.std())


def initialise(model: Qwen2_5_VLForConditionalGeneration, numbers: list[int], seed: int) -> None:
    """Fill every weight from ``seed``; ``numbers`` are the token ids of 0, 1, 2, ..."""
    generator = torch.Generator().manual_seed(seed)
    embedding_scale = 0.05
    config: Any = model.config
    depth = {"visual": config.vision_config.depth, "language": config.text_config.num_hidden_layers}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
            elif weight.ndim == 1:
                weight.fill_(1.0)
            elif "embed_tokens" in name:
                weight.normal_(0, embedding_scale, generator=generator)
                weight[numbers] = _fourier_rows(len(numbers), weight.shape[1], embedding_scale, generator)
            else:
                deviation = 0.8 / math.sqrt(weight[0].numel())
                if name.endswith(("o_proj.weight", "attn.proj.weight", "down_proj.weight")):
                    # What is added to the residual stream shrinks with the number of layers that add to it.
                    deviation /= math.sqrt(2 * depth["visual" if ".visual." in name else "language"])
                weight.normal_(0, deviation, generator=generator)


def make_model(processor: Qwen2_5_VLProcessor, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A fresh policy in float32."""
    model: Any = Qwen2_5_VLForConditionalGeneration(make_config(processor)).float()
    model.tie_weights()
    initialise(model, number_ids(processor.tokenizer), seed)
    token = processor.tokenizer.convert_tokens_to_ids
    model.generation_config = GenerationConfig(
        eos_token_id=[token("<|im_end|>"), token("<|endoftext|>")], pad_token_id=token("<|endoftext|>"), do_sample=False
    )
    return model.eval()


def reword(folder: str | Path, processor: Qwen2_5_VLProcessor, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """The weights in ``folder`` for the tokenizer of ``processor``, float32.

    Words that both tokenizers have keep their embedding; all other embeddings are drawn from ``seed``.
    """
    model = make_model(processor, seed)
    source: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    old = Qwen2_5_VLProcessor.from_pretrained(folder).tokenizer.get_vocab()
    new = processor.tokenizer.get_vocab()
    shared = [word for word in new if word in old]
    weights = source.state_dict()
    for name, rows in model.state_dict().items():
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):  # the same weight, if tied
            reworded = rows.clone()
            reworded[[new[word] for word in shared]] = weights[name][[old[word] for word in shared]]
            weights[name] = reworded
    model.load_state_dict(weights)
    return model


def save_policy(
    model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, folder: Path, dtype: torch.dtype
) -> None:
    """Write weights, configuration, tokenizer, processor and prompt spec into ``folder``.

    Files are made in a sibling folder and moved in one by one; what ``folder`` holds besides stays.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
    try:
        copy: Any = Qwen2_5_VLForConditionalGeneration(model.config)
        copy.load_state_dict(model.state_dict())
        copy.generation_config = model.generation_config
        copy.to(dtype).save_pretrained(staging)
        processor.save_pretrained(staging)
        SPEC.save(staging)
        for path in sorted(staging.iterdir()):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(staging)
