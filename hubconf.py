"""Entry points for ``torch.hub``: RADSeg's encoder under the names of the original.

encoder = torch.hub.load(REPOSITORY, "radseg_encoder", model_version="c-radio_v3-b", lang_model="siglip2",
                         predict=True, classes=["sky", "cat, kitten"])
probabilities, labels = encoder.encode_image_to_feat_map(images, return_preds=True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

dependencies = ["torch", "timm", "transformers", "safetensors"]

if TYPE_CHECKING:
    from seg_zero.open_vocabulary.radseg import RadSegEncoder


def radseg_encoder(
    model_version: str = "c-radio_v3-b",
    lang_model: str = "siglip2",
    scra_scaling: float = 10.0,
    scga_scaling: float = 10.0,
    **kwargs: Any,
) -> RadSegEncoder:
    """RADSeg on a RADIO backbone; ``kwargs`` are those of :class:`seg_zero.open_vocabulary.radseg.RadSegEncoder`."""
    from seg_zero.open_vocabulary.radseg import RadSegEncoder

    return RadSegEncoder(model_version, lang_model, scra_scaling=scra_scaling, scga_scaling=scga_scaling, **kwargs)
