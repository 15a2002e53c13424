"""Small RADIO backbones and text towers with random weights, in the formats of the published ones."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from timm.models.naflexvit import NaFlexVit
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    SamConfig,
    SamModel,
    Siglip2TextConfig,
    Siglip2TextModel,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from seg_zero.encoders.adaptors import AdaptorHead
from seg_zero.encoders.radio_convert import convert
from seg_zero.encoders.radio_model import configuration
from seg_zero.encoders.radio_versions import Architecture

SMALL = Architecture(embed_dim=32, depth=2, num_heads=2, init_values=0.1)
TEXT_WIDTH = 24
TEACHERS = [
    {"name": "clip", "type": "open_clip", "model": "small-clip", "pretrained": "none"},
    {"name": "siglip2", "type": "siglip2", "model": "siglip2-so400m"},
    {"name": "dino_v2", "type": "dino_v2", "model": "dinov2_vitg14_reg"},
    {"name": "sam", "type": "sam", "model": "vit-h"},
]


def small_backbone(architecture: Architecture = SMALL, align_corners: bool = False) -> NaFlexVit:
    torch.manual_seed(0)
    model = NaFlexVit(configuration(architecture, align_corners), num_classes=0)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn_like(value) * 0.2)
        model.embeds.proj.bias.zero_()  # RADIO has none
    return model.eval()


def published_state(model: NaFlexVit) -> dict[str, torch.Tensor]:
    """The backbone's weights under RADIO's names."""
    weights = dict(model.state_dict())
    pos, proj = weights.pop("embeds.pos_embed"), weights.pop("embeds.proj.weight")
    weights.pop("embeds.proj.bias")
    tokens = torch.cat([weights.pop("embeds.cls_token"), weights.pop("embeds.reg_token")], dim=1)[0]
    width = pos.shape[-1]
    channel_last = proj.reshape(width, 16, 16, 3)
    return {
        "base_model.patch_generator.embedder.weight": channel_last.permute(0, 3, 1, 2).reshape(width, -1),
        "base_model.patch_generator.pos_embed": pos.reshape(1, -1, width),
        "base_model.patch_generator.cls_token.token": tokens,
        **{f"base_model.{name}": value for name, value in weights.items()},
    }


def head_weights(prefix: str, out: int, *, blocks: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    head = AdaptorHead(SMALL.embed_dim, 40, out, blocks)
    return {f"{prefix}.{name}": value for name, value in head.state_dict().items()}


def write_checkpoint(path: Path, state: dict[str, torch.Tensor], **extra: Any) -> Path:
    """A checkpoint as RADIO publishes it; ``extra`` goes into its dictionary."""
    args = argparse.Namespace(model="vit_small", teachers=TEACHERS, dtype=torch.float16)
    torch.save({"arch": "vit_small", "epoch": 1, "args": args, "state_dict": state, **extra}, path)
    return path


def small_checkpoint(path: Path) -> tuple[Path, NaFlexVit]:
    """A checkpoint with heads of all teachers but DINO's summary, and the backbone in it."""
    model = small_backbone()
    state = published_state(model)
    for index, out in ((0, 20), (1, TEXT_WIDTH), (3, 16)):
        state |= head_weights(f"_heads.{index}", out, seed=index)
    state |= head_weights("_feature_projections.3", 16, blocks=0, seed=9)
    return write_checkpoint(path, state), model


def small_text_tower(folder: Path) -> Path:
    """A SigLIP2 text tower of random weights with a vocabulary of a few words."""
    words = ["<pad>", "<unk>", "a", "photo", "of", "sky", "cat", "kitten", "grass", "red", "circle"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    torch.manual_seed(0)
    config = Siglip2TextConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, projection_size=TEXT_WIDTH, pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    Siglip2TextModel(config).save_pretrained(folder)
    return folder


def small_images(folder: Path) -> Path:
    """A SigLIP2 image tower of random weights, with its preprocessor."""
    torch.manual_seed(0)
    config = SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    SiglipVisionModel(config).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def small_folder(folder: Path) -> Path:
    """A converted backbone with its text tower beside it, all of random weights: what ``load_radio`` reads."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    checkpoint, _ = small_checkpoint(folder.with_suffix(".pth.tar"))
    convert(checkpoint, folder, SMALL)
    small_text_tower(folder / "text")
    description = json.loads((folder / "radio.json").read_text())
    description["adaptors"]["siglip2"]["model"] = "text"
    description["image"] = {"crop": 64, "stride": 32, "short_side": None}
    (folder / "radio.json").write_text(json.dumps(description))
    return folder


def small_sam(folder: Path, width: int = 16) -> Path:
    """A SAM-1 of random weights whose neck takes ``width`` channels."""
    vision = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2, "output_channels": 32}
    decoder = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "mlp_dim": 32,
        "iou_head_hidden_dim": 32,
    }
    torch.manual_seed(0)
    config = SamConfig(
        vision_config={**vision, "global_attn_indexes": [0], "mlp_dim": 16, "num_pos_feats": 16},
        prompt_encoder_config={"hidden_size": 32},
        mask_decoder_config=decoder,
    )
    SamModel(config).save_pretrained(folder)
    return folder
