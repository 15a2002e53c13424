"""Write a SAM 2 or SAM 2.1 of the sam2 package in the format of transformers.

    python -m seg_zero.segmenter.convert --out outputs/sam2_transformers                       # the embedded model
    python -m seg_zero.segmenter.convert --segmenter sam2.1_hiera_large.pt --out outputs/large

The image part alone is written: the memory of the video model is left out. The result gives the same masks.

Models without a token for the object score (``pred_obj_scores: false``, as the embedded one; all published models
have it): the decoder of transformers always has the token. Attention sees tokens as a set, and each prompt is padded
with one token that is not a point; the converted model carries its embedding in place of the object token, and
config.json says ``"object_score_token": false``, upon which our segmenter drops the padding. Sam2Model on its own does
not know the key and sees this token twice.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model

from seg_zero.errors import InputError, one_line
from seg_zero.segmenter.files import Sam2Files, find
from seg_zero.segmenter.sam2_package import Sam2PackageSegmenter
from seg_zero.segmenter.transformers_sam import OBJECT_TOKEN

# Of the video model only.
_VIDEO = re.compile(
    r"(memory_attention|memory_encoder|mask_downsample|obj_ptr_proj|obj_ptr_tpos_proj)\."
    r"|maskmem_tpos_enc|no_mem_pos_enc|no_obj_ptr|no_obj_embed_spatial"
)

_GAUSSIAN = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_POINT = re.compile(r"sam_prompt_encoder\.point_embeddings\.(\d)\.weight")

# Names in sam2 and in transformers, applied in this order.
_NAMES = [
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"\.out_proj\.", ".o_proj."),
    # Two layers in the blocks, three in the heads.
    (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
    (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
    (r"(_mlps\.\d|_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(_mlps\.\d|_head)\.layers\.1\.", r"\1.layers.0."),
    (r"(_mlps\.\d|_head)\.layers\.2\.", r"\1.proj_out."),
]


def convert(path_or_id: str | Path | None, out: Path) -> None:
    """Write config.json, preprocessor_config.json and model.safetensors (float32) to the new folder ``out``.

    path_or_id: a model of the sam2 package, as :func:`seg_zero.segmenter.load_segmenter` takes it.
    Raises InputError for a model in another format or of another architecture, and if ``out`` exists.
    """
    files = find(path_or_id)
    if not isinstance(files, Sam2Files):
        raise InputError(f"segmenter {path_or_id} is in the format of transformers already")
    if out.exists():
        raise InputError(f"--out {out} exists; give a new folder")
    segmenter = Sam2PackageSegmenter.from_files(files.config, files.checkpoint, "cpu")
    try:
        model = converted(segmenter)
    except (AttributeError, RuntimeError) as error:
        raise InputError(f"{files.config} is no SAM2 that transformers can hold ({one_line(error)})") from error
    partial = out.with_name(f".{out.name}.partial")
    try:
        model.save_pretrained(partial)
        side = {"height": segmenter.side, "width": segmenter.side}
        low_res = {"height": segmenter.low_res_side, "width": segmenter.low_res_side}
        Sam2ImageProcessor(size=side, mask_size=low_res).save_pretrained(partial)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def converted(segmenter: Sam2PackageSegmenter) -> Sam2Model:
    """The same model as transformers holds it. Raises RuntimeError if a weight has no place there or is missing."""
    model = Sam2Model(Sam2Config(**_configuration(segmenter.model)))
    model.load_state_dict(_weights(segmenter.model, model.state_dict()))
    return model.eval()


def _configuration(sam2: Any) -> dict[str, Any]:
    """The arguments of Sam2Config, read from the modules of a SAM2Base."""
    trunk, neck, decoder = sam2.image_encoder.trunk, sam2.image_encoder.neck, sam2.sam_mask_decoder
    if not (sam2.use_high_res_features_in_sam and sam2.iou_prediction_use_sigmoid):
        raise RuntimeError("it lacks high-resolution features or the sigmoid of the predicted IoU")
    side, width = sam2.image_size, neck.d_model
    ends = [end + 1 for end in trunk.stage_ends]
    last = [trunk.blocks[end] for end in trunk.stage_ends]
    first = last[0]
    return {
        "vision_config": {
            "backbone_config": {
                "hidden_size": first.dim_out,
                "image_size": [side, side],
                "num_attention_heads": first.attn.num_heads,
                "window_positional_embedding_background_size": list(trunk.window_pos_embed_bkg_spatial_size),
                "query_stride": list(trunk.q_stride),
                "num_query_pool_stages": len(trunk.q_pool_blocks),
                "blocks_per_stage": [end - start for start, end in zip([0, *ends], ends, strict=False)],
                "embed_dim_per_stage": [block.dim_out for block in last],
                "num_attention_heads_per_stage": [block.attn.num_heads for block in last],
                "window_size_per_stage": list(trunk.window_spec),
                "global_attention_blocks": list(trunk.global_att_blocks),
            },
            "backbone_channel_list": list(neck.backbone_channel_list),
            "backbone_feature_sizes": [[side // stride, side // stride] for stride in (4, 8, 16)],
            "fpn_hidden_size": width,
            "fpn_top_down_levels": list(neck.fpn_top_down_levels),
        },
        "prompt_encoder_config": {"hidden_size": width, "image_size": side, "patch_size": 16},
        "mask_decoder_config": {
            "hidden_size": width,
            "mlp_dim": decoder.transformer.mlp_dim,
            "num_hidden_layers": decoder.transformer.depth,
            "num_attention_heads": decoder.transformer.num_heads,
            "num_multimask_outputs": decoder.num_multimask_outputs,
        },
        OBJECT_TOKEN: bool(decoder.pred_obj_scores),
    }


def _weights(sam2: Any, template: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}
    points: dict[int, torch.Tensor] = {}
    for name, value in sam2.state_dict().items():
        if _VIDEO.match(name):
            continue
        if point := _POINT.fullmatch(name):
            points[int(point[1])] = value
        elif name == _GAUSSIAN:
            weights["prompt_encoder.shared_embedding.positional_embedding"] = value
            weights["shared_image_embedding.positional_embedding"] = value.clone()
        else:
            weights[_renamed(name)] = value
    weights["prompt_encoder.point_embed.weight"] = torch.cat([points[index] for index in sorted(points)])
    if not sam2.directly_add_no_mem_embed:  # transformers always adds it
        weights["no_memory_embedding"] = torch.zeros_like(weights["no_memory_embedding"])
    if not sam2.sam_mask_decoder.pred_obj_scores:
        weights["mask_decoder.obj_score_token.weight"] = weights["prompt_encoder.not_a_point_embed.weight"].clone()
        head = {name: torch.zeros_like(template[name]) for name in template if ".pred_obj_score_head." in name}
        weights.update(head)
    return weights


def _renamed(name: str) -> str:
    for pattern, new in _NAMES:
        name = re.sub(pattern, new, name)
    return name


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m seg_zero.segmenter.convert",
        description="Write a SAM 2 of the sam2 package in the format of transformers.",
    )
    parser.add_argument("--segmenter", default="tiny", help="checkpoint file, folder or hub id (default: the embedded)")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    arguments = parser.parse_args(argv)
    try:
        convert(arguments.segmenter, arguments.out)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.out}: use it as --segmenter {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
