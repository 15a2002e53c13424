"""SAM-1's neck, prompt encoder and mask decoder (transformers' ``SamModel``) on features of another backbone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F

from seg_zero.errors import InputError, one_line
from seg_zero.hub import check_here, check_shapes, load_model

GRID = 64  # rows and columns of SAM's image embedding
# "released" feeds the mask prompt as RADSeg+ and Trident did, as a tensor of three dimensions: SAM's norm then works
# over its height. Published numbers carry this.
Compat = Literal["fixed", "released"]
COMPATS: tuple[Compat, ...] = ("fixed", "released")


class SamDecoder:
    """A frozen SAM-1 without its image encoder. ``width``: the channels that its neck takes."""

    def __init__(self, path_or_id: str | Path, device: torch.device, compat: Compat = "fixed") -> None:
        from transformers import SamModel

        if compat not in COMPATS:
            raise InputError(f"compat {compat!r} is unknown; choose one of {', '.join(COMPATS)}")
        check_here("SAM", str(path_or_id))
        try:
            model, loaded = load_model(SamModel, str(path_or_id))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(
                f"SAM {path_or_id} cannot be loaded ({one_line(error)}); give facebook/sam-vit-huge"
            ) from error
        check_shapes(loaded, f"SAM {path_or_id}")
        if loaded["missing_keys"]:
            raise InputError(
                f"SAM {path_or_id} lacks weights ({sorted(loaded['missing_keys'])[0]}); give facebook/sam-vit-huge"
            )
        self.width: int = model.config.vision_config.hidden_size
        self.compat = compat
        self._neck, self._prompts, self._decoder = model.vision_encoder.neck, model.prompt_encoder, model.mask_decoder
        for part in (self._neck, self._prompts, self._decoder):
            part.eval().requires_grad_(False).to(device)
        with torch.no_grad():
            self._positions = model.get_image_wide_positional_embeddings().to(device)

    @torch.inference_mode()
    def embedding(self, features: torch.Tensor) -> torch.Tensor:
        """1 x C x h x w features in the space before the neck, top left in the frame, to SAM's 1 x 256 x 64 x 64."""
        height, width = features.shape[-2:]
        padded = F.pad(features, (0, GRID - width, 0, GRID - height)).float()
        embedding: torch.Tensor = self._neck(padded.permute(0, 2, 3, 1))
        return embedding

    def decoder(
        self, embedding: torch.Tensor
    ) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """What answers prompts about an embedding: boxes N x 4, points N x 1 x 2 and a shared mask prompt
        1 x 1 x 256 x 256 to logits N x 256 x 256 and predicted IoUs N."""

        @torch.inference_mode()
        def decode(
            boxes: torch.Tensor, points: torch.Tensor, prompt: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            device = embedding.device
            ones = torch.ones(1, len(points), 1, dtype=torch.int, device=device)
            sparse, _ = self._prompts(points[None].to(device), ones, boxes[None].to(device), None)
            dense = self._dense(prompt.to(device))
            masks, quality = self._decoder(embedding, self._positions, sparse, dense, multimask_output=False)[:2]
            return masks[0, :, 0], quality[0, :, 0]

        return decode

    def _dense(self, prompt: torch.Tensor) -> torch.Tensor:
        embed = self._prompts.mask_embed
        if self.compat == "fixed":
            dense: torch.Tensor = embed(prompt)
            return dense
        x = embed.activation(_norm_over_height(embed.conv1(prompt), embed.layer_norm1))
        x = embed.activation(_norm_over_height(embed.conv2(x), embed.layer_norm2))
        dense = embed.conv3(x)
        return dense


def _norm_over_height(x: torch.Tensor, norm: Any) -> torch.Tensor:
    mean = x.mean(dim=2, keepdim=True)
    deviation = ((x - mean).square().mean(dim=2, keepdim=True) + norm.eps).sqrt()
    return (x - mean) / deviation * norm.weight[:, None, None] + norm.bias[:, None, None]
