"""One space for pictures and texts, named by a word such as ``siglip2:google/siglip2-base-patch16-256``.

siglip2:FOLDER_OR_ID          whole pictures, by the two towers of a SigLIP or SigLIP2
clip:MODEL:PRETRAINED         whole pictures, by those of a CLIP of open_clip
radio:BACKBONE[:ADAPTOR]      patches of a picture, by a RADIO backbone, and the texts of its adaptor (siglip2)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from seg_zero.errors import InputError

if TYPE_CHECKING:
    from seg_zero.encoders.image_towers import ImageTower
    from seg_zero.encoders.radio import RadioEncoder
    from seg_zero.encoders.text_towers import TextTower

KINDS = ("siglip2", "clip", "radio")
_FORMS = "siglip2:FOLDER_OR_ID, clip:MODEL:PRETRAINED or radio:BACKBONE[:ADAPTOR]"


@dataclass(frozen=True)
class Space:
    """What a word names. second: of ``clip`` the pretrained weights, of ``radio`` the adaptor, else empty."""

    kind: str
    model: str
    second: str = ""

    @classmethod
    def parse(cls, word: str) -> Space:
        """Raises InputError for a word of another form."""
        kind, _, rest = word.partition(":")
        model, _, second = rest.partition(":")
        if kind not in KINDS or not model or (kind == "siglip2" and second) or (kind == "clip" and not second):
            raise InputError(f"encoder {word!r} has no known form; give {_FORMS}")
        return cls(kind, model, second or ("siglip2" if kind == "radio" else ""))

    def image_tower(self, device: str | None = None) -> ImageTower:
        """Of ``siglip2`` and ``clip``. Raises InputError for what cannot be loaded."""
        from seg_zero.encoders.image_towers import ClipImages, SiglipImages

        return (
            SiglipImages(self.model, device) if self.kind == "siglip2" else ClipImages(self.model, self.second, device)
        )

    def backbone(self, device: str | None = None) -> RadioEncoder:
        """Of ``radio``. Raises InputError for what cannot be loaded, and without the adaptor."""
        from seg_zero.encoders.radio import load_radio

        encoder = load_radio(self.model, device)
        encoder.adaptor(self.second)
        return encoder

    def text_tower(self, device: str | None = None) -> TextTower:
        """Raises InputError for what cannot be loaded."""
        from seg_zero.encoders.text_towers import load_tower

        if self.kind != "radio":
            return load_tower(self.kind, self.model, self.second, device)
        info = self.backbone(device).adaptor(self.second).info
        return load_tower(info.type, info.model, info.pretrained, device)
