"""Names to text vectors: each name in a set of templates, the unit vectors averaged, and all of it cached.

encoder = TextEncoder(tower, "imagenet")
vectors = encoder.encode(["sky", "cat"])        # 2 x E
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from seg_zero.data.cache import remembered
from seg_zero.encoders.templates import templates_named
from seg_zero.encoders.text_towers import TextTower

TEXTS_AT_ONCE = 320


class TextEncoder:
    """A tower with a set of templates (:data:`seg_zero.encoders.templates.TEMPLATES`).

    Vectors are remembered by name in this object and, unless ``store`` is False, between runs in
    ``$XDG_CACHE_HOME/seg_zero/text`` by the digest of tower, templates and names.
    """

    def __init__(self, tower: TextTower, templates: str = "imagenet", *, store: bool = True) -> None:
        self.tower, self.templates, self.store = tower, templates_named(templates), store
        self._known: dict[str, torch.Tensor] = {}

    def encode(self, names: Sequence[str]) -> torch.Tensor:
        """n names to n x E: the mean over the templates of vectors of length 1, itself not of length 1."""
        missing = [name for name in dict.fromkeys(names) if name not in self._known]
        if missing:
            vectors = self._remembered(missing) if self.store else self._computed(missing)
            self._known |= dict(zip(missing, vectors, strict=True))
        return torch.stack([self._known[name] for name in names])

    def _remembered(self, names: Sequence[str]) -> torch.Tensor:
        key = hashlib.sha256(json.dumps([self.tower.name, self.templates, list(names)]).encode()).hexdigest()
        vectors, _ = remembered(
            "text", key, lambda: self._computed(names), lambda found: save_tensors({"text": found}), _decoded
        )
        return vectors

    def _computed(self, names: Sequence[str]) -> torch.Tensor:
        texts = [template.replace("{}", name) for name in names for template in self.templates]
        parts = (texts[start : start + TEXTS_AT_ONCE] for start in range(0, len(texts), TEXTS_AT_ONCE))
        vectors = torch.cat([F.normalize(self.tower.encode(part), dim=-1) for part in parts])
        return vectors.reshape(len(names), len(self.templates), -1).mean(dim=1)


def _decoded(data: bytes) -> torch.Tensor:
    try:
        return load_tensors(data)["text"]
    except Exception as error:  # safetensors raises its own type, which derives from Exception alone
        raise ValueError(str(error)) from error
