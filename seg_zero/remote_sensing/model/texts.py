"""Class names to text vectors by CLIP: with gradient while the tower is trained, else remembered while they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from seg_zero.encoders.dense_clip import DenseClip
from seg_zero.encoders.templates import templates_named
from seg_zero.errors import InputError
from seg_zero.remote_sensing.class_names import check_names

_PIECES = 2 * 256 + 2  # of CLIP's vocabulary: bytes within and at the end of a word, start and end of a text


def tokeniser(vocabulary: int) -> Any:
    """CLIP's tokeniser by open_clip, the same for all of OpenAI's models; a smaller vocabulary has its first merges.

    It takes texts and ``context_length=``. Raises InputError for a vocabulary without all bytes, or above CLIP's.
    """
    from open_clip.tokenizer import SimpleTokenizer

    made = SimpleTokenizer()
    if not _PIECES <= vocabulary <= made.vocab_size:
        raise InputError(f"clip.vocabulary={vocabulary} is not from {_PIECES} to {made.vocab_size}; change it")
    if vocabulary < made.vocab_size:
        pieces, special = list(made.encoder)[: vocabulary - 2], list(made.encoder)[-2:]
        made.bpe_ranks = dict(list(made.bpe_ranks.items())[: vocabulary - _PIECES])
        made.encoder = {piece: number for number, piece in enumerate([*pieces, *special])}
        made.decoder = {number: piece for piece, number in made.encoder.items()}
        made.all_special_ids = [made.encoder[piece] for piece in special]
        made.sot_token_id, made.eot_token_id = made.all_special_ids
        made.vocab_size = vocabulary
    return made


class TextVectors(nn.Module):
    """T names to T x C, one sentence each. Of names with synonyms, "road, street", the first counts.

    A tower that is trained is asked anew whenever a gradient is wanted, once a call. Otherwise vectors are kept for
    the last names; a change of a weight of the tower, of its device, or ``train()`` drops them.
    """

    def __init__(self, clip: DenseClip, templates: str) -> None:
        super().__init__()
        (self.template,) = templates_named(templates)
        self._clip = [clip]  # in a list, so that it is not a submodule twice
        self._tokeniser: Any = None
        self._tokens: tuple[tuple[str, ...], torch.Tensor] | None = None
        self._kept: tuple[object, torch.Tensor] | None = None
        self.computed = 0  # how often the tower was asked

    def train(self, mode: bool = True) -> TextVectors:
        if mode and self._trained():
            self._kept = None
        return super().train(mode)

    def tokens(self, names: Sequence[str]) -> torch.Tensor:
        """T x length token numbers."""
        key = tuple(names)
        if self._tokens is None or self._tokens[0] != key:
            check_names(key)
            if self._tokeniser is None:
                self._tokeniser = tokeniser(self._clip[0].settings.vocabulary)
            sentences = [self.template.replace("{}", name.split(", ")[0]) for name in key]
            length = self._clip[0].settings.text_length
            self._tokens = key, self._tokeniser(sentences, context_length=length)
        return self._tokens[1]

    def _weights(self) -> list[nn.Parameter]:
        model = self._clip[0].model
        return [*model.text_model.parameters(), *model.text_projection.parameters()]

    def _trained(self) -> bool:
        return any(weight.requires_grad for weight in self._weights())

    def forward(self, names: Sequence[str]) -> torch.Tensor:
        weights = self._weights()
        tokens, device = self.tokens(names), weights[0].device
        if torch.is_grad_enabled() and any(weight.requires_grad for weight in weights):
            self.computed += 1
            return self._clip[0].text(tokens.to(device))
        # In-place changes, which optimisers and loading make, raise a tensor's version.
        key = (tuple(names), str(device), torch.is_autocast_enabled(device.type), *(w._version for w in weights))
        if self._kept is None or self._kept[0] != key:
            self.computed += 1
            with torch.inference_mode(False), torch.no_grad():
                self._kept = key, self._clip[0].text(tokens.to(device))
        return self._kept[1]
