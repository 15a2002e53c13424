"""Randomly initialised policies of every family, with the embedded policy's tokenizer. Nothing is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModelForImageTextToText,
    GenerationConfig,
    Glm4vConfig,
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    PreTrainedTokenizerFast,
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
from seg_zero.policy.families import FAMILIES, spec_of_family

WIDTH = 128
TOKENS_PER_SIDE = 4
HEAD = 64  # a width that vLLM's attention on CPU supports


def image_side(family: str) -> int:
    """Side in pixels of the images that the tiny model of a family sees."""
    return TOKENS_PER_SIDE * FAMILIES[family].token_pixels


# What GLM-4.1V calls the special tokens that mean the same, and four that its processor and verl look up.
GLM_TOKENS = {
    "<|object_ref_start|>": "<|user|>",
    "<|object_ref_end|>": "<|observation|>",
    "<|vision_start|>": "<|begin_of_image|>",
    "<|vision_end|>": "<|end_of_image|>",
    "<|image_pad|>": "<|image|>",
    "<|video_pad|>": "<|video|>",
    "<|box_start|>": "<|begin_of_video|>",
    "<|box_end|>": "<|end_of_video|>",
}


def _glm_words(text: str) -> str:
    for name, own in GLM_TOKENS.items():
        text = text.replace(name, own)
    return text


def make_glm_processor() -> Any:
    token, side = FAMILIES["glm4v"].token_pixels, image_side("glm4v")
    shared = {"patch_size": token // 2, "merge_size": 2, "temporal_patch_size": 2}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_glm_words(make_tokenizer().backend_tokenizer.to_str())),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=4096,
    )
    # The processor counts two frames of each image, so it lets through half of `longest_edge`.
    size = {"shortest_edge": token**2, "longest_edge": 2 * side**2}
    return Glm4vProcessor(
        image_processor=Glm4vImageProcessor(size=size, **shared),
        tokenizer=tokenizer,
        video_processor=Glm4vVideoProcessor(size=size, **shared),
        chat_template=_glm_words(CHAT_TEMPLATE),
    )


def make_processor(family: str) -> Any:
    if family == "glm4v":
        return make_glm_processor()
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
    if family == "glm4v":
        return _glm_config(text, ends, token)
    common: dict[str, Any] = {"num_heads": 2, "patch_size": FAMILIES[family].token_pixels // 2, "spatial_merge_size": 2}
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
    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "out_hidden_size": WIDTH, **common}
    if family == "qwen2_5_vl":
        vision = {"depth": 2, "window_size": image_side(family), "fullatt_block_indexes": [1], **sizes}
        return Qwen2_5_VLConfig(text_config=text, vision_config=vision, **shared)
    text["head_dim"] = HEAD
    text["rope_parameters"]["mrope_interleaved"] = True
    # DeepStack: the features of every vision layer named here are added to one of the first language layers.
    vision = {"depth": 3, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64, **sizes}
    return Qwen3VLConfig(text_config=text, vision_config=vision, **shared)


def _glm_config(text: dict[str, Any], ends: dict[str, Any], token: Any) -> Glm4vConfig:
    """The tower's blocks have as many intermediate values as the language model is wide."""
    # Half of each head is turned by position, as in the published model.
    text["rope_parameters"] |= {"partial_rotary_factor": 0.5, "mrope_section": [4, 6, 6]}
    text["attention_bias"] = True  # as published: transformers always has biases, vLLM has them where this says so
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "num_heads": 2,
        "intermediate_size": 128,
        "out_hidden_size": WIDTH,
        "image_size": image_side("glm4v"),
        "patch_size": FAMILIES["glm4v"].token_pixels // 2,
        "spatial_merge_size": 2,
    }
    return Glm4vConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token("<|image|>"),
        video_token_id=token("<|video|>"),
        image_start_token_id=token("<|begin_of_image|>"),
        image_end_token_id=token("<|end_of_image|>"),
        video_start_token_id=token("<|begin_of_video|>"),
        video_end_token_id=token("<|end_of_video|>"),
        tie_word_embeddings=True,
        **ends,
    )


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
        # Not zero where each layer also norms what it adds: such norms magnify what is nothing but rounding.
        model.get_input_embeddings().weight[silent] *= 0.1 if family == "glm4v" else 0.0
    ends = [config.text_config.eos_token_id, config.text_config.pad_token_id]
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=ends[1], do_sample=False)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    spec_of_family(template, image_side(family), family).save(folder)
    return folder
