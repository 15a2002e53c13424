"""Randomly initialised policies of every family, with the embedded policy's tokenizer. Nothing is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    GenerationConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen3VLConfig,
    Qwen3VLProcessor,
)
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from seg_zero.models.tiny_policy_tokenizer import CHAT_TEMPLATE, VOCAB_SIZE, make_tokenizer
from seg_zero.prompting import FAMILIES, PromptSpec

WIDTH = 128
TOKENS_PER_SIDE = 4
HEAD = 64  # a width that vLLM's attention on CPU supports


def image_side(family: str) -> int:
    """Side in pixels of the images that the tiny model of a family sees."""
    return TOKENS_PER_SIDE * FAMILIES[family].token_pixels


def make_processor(family: str) -> Any:
    token, side = FAMILIES[family].token_pixels, image_side(family)
    pixels = {"min_pixels": token**2, "max_pixels": side**2}
    shared = {"patch_size": token // 2, "merge_size": 2, "temporal_patch_size": 2}
    kind, video = {
        "qwen2_vl": (Qwen2VLProcessor, Qwen2VLVideoProcessor),
        "qwen2_5_vl": (Qwen2_5_VLProcessor, Qwen2VLVideoProcessor),
        "qwen3_vl": (Qwen3VLProcessor, Qwen3VLVideoProcessor),
    }[family]
    return kind(
        image_processor=Qwen2VLImageProcessor(**pixels, **shared),
        tokenizer=make_tokenizer(),
        video_processor=video(**pixels, **shared),
        chat_template=CHAT_TEMPLATE,
    )


def make_config(family: str, tokenizer: Any) -> Any:
    token = tokenizer.convert_tokens_to_ids
    ends = {"eos_token_id": token("<|im_end|>"), "pad_token_id": token("<|endoftext|>"), "bos_token_id": None}
    text: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": WIDTH,
        "intermediate_size": 192,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 12, 12]},
        "tie_word_embeddings": True,
        **ends,
    }
    common = {"num_heads": 2, "patch_size": FAMILIES[family].token_pixels // 2, "spatial_merge_size": 2}
    shared = {
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
        "tie_word_embeddings": True,
        **ends,
    }
    if family == "qwen2_vl":
        vision = {"depth": 2, "embed_dim": 64, "mlp_ratio": 2, "hidden_size": WIDTH, **common}
        return Qwen2VLConfig(text_config=text, vision_config=vision, **shared)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "out_hidden_size": WIDTH, **common}
    if family == "qwen2_5_vl":
        vision = {"depth": 2, "window_size": image_side(family), "fullatt_block_indexes": [1], **sizes}
        return Qwen2_5_VLConfig(text_config=text, vision_config=vision, **shared)
    text["head_dim"] = HEAD
    text["rope_parameters"]["mrope_interleaved"] = True
    # DeepStack: the features of every vision layer named here are added to one of the first language layers.
    vision = {"depth": 3, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64, **sizes}
    return Qwen3VLConfig(text_config=text, vision_config=vision, **shared)


def save_tiny_model(family: str, folder: Path, template: str = "brief", seed: int = 0) -> Path:
    """Write a random model of ``family`` (a ``model_type``) with all that training and inference read."""
    processor = make_processor(family)
    config = make_config(family, processor.tokenizer)
    torch.manual_seed(seed)
    model: Any = AutoModelForImageTextToText.from_config(config).float()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:  # the usual 0.02 makes so small a model answer alike to everything
                weight.normal_(0, 0.2 if "embed" in name else weight[0].numel() ** -0.5)
        # Never the most likely: image placeholders, which verl bans in vLLM alone, and pieces of characters, of which
        # vLLM and transformers make different text.
        tokens = processor.tokenizer.batch_decode([[token] for token in range(VOCAB_SIZE)])
        silent = [number for number, text in enumerate(tokens) if "\ufffd" in text or text.startswith("<|")]
        model.get_input_embeddings().weight[silent] = 0.0
    ends = [config.text_config.eos_token_id, config.text_config.pad_token_id]
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=ends[1], do_sample=False)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    PromptSpec.of_family(template, image_side(family), family).save(folder)
    return folder
