"""timm's model of a RADIO backbone."""

from __future__ import annotations

import torch
from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg

from seg_zero.encoders.radio_versions import PATCH, Architecture


def configuration(architecture: Architecture, align_corners: bool) -> NaFlexVitCfg:
    """timm's configuration of a RADIO backbone, as its ``naflexvit_*_radio_*`` models have it."""
    return NaFlexVitCfg(
        patch_size=PATCH,
        class_token=True,
        global_pool="token",
        final_norm=False,
        pos_embed_grid_size=(architecture.grid, architecture.grid),
        pos_embed_interp_mode="bilinear",
        pos_embed_ar_preserving=True,
        pos_embed_antialias=False,
        pos_embed_align_corners=align_corners,
        embed_dim=architecture.embed_dim,
        depth=architecture.depth,
        num_heads=architecture.num_heads,
        reg_tokens=architecture.reg_tokens,
        mlp_ratio=architecture.mlp_ratio,
        init_values=architecture.init_values,
    )


def empty_backbone(architecture: Architecture, align_corners: bool) -> NaFlexVit:
    """The backbone without storage for its weights (on the meta device), to load weights into."""
    with torch.device("meta"):
        return NaFlexVit(configuration(architecture, align_corners), num_classes=0)
