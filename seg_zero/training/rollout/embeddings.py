"""SAM2's embeddings of the pictures that answers are about, computed in batches and kept for the next answers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from cachetools import LRUCache
from PIL import Image

if TYPE_CHECKING:
    from seg_zero.segmenter import Embedding, Segmenter

EMBEDDING_BATCH = 8  # images in the encoder at a time

Key = TypeVar("Key", bound=Hashable)
Extra = TypeVar("Extra")


class LatestEmbeddings(Generic[Key, Extra]):
    """Embeddings of the latest ``most`` pictures, each with what was read beside its picture.

    read: picture and extra of a key, may raise anything; name: a key in words, for problems. computed: how many
    pictures were embedded.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        most: int,
        read: Callable[[Key], tuple[Image.Image, Extra]],
        name: Callable[[Key], str],
    ) -> None:
        self.computed = 0
        self._segmenter, self._read, self._name = segmenter, read, name
        self._cache: LRUCache[Key, tuple[Embedding, Extra]] = LRUCache(most)

    def of(self, keys: Sequence[Key]) -> Iterator[tuple[Key, tuple[Embedding, Extra] | str]]:
        """Each key with its embedding and extra, or with the line that says why there is none."""
        for start in range(0, len(keys), EMBEDDING_BATCH):
            some = keys[start : start + EMBEDDING_BATCH]
            # Held here, since the cache may have room for fewer than are worked on together.
            held: dict[Key, tuple[Embedding, Extra] | str] = {
                key: self._cache[key] for key in some if key in self._cache
            }
            held |= self._embed([key for key in some if key not in held])
            yield from ((key, held[key]) for key in some)

    def _embed(self, keys: Sequence[Key]) -> dict[Key, tuple[Embedding, Extra] | str]:
        found: dict[Key, tuple[Embedding, Extra] | str] = {}
        ready = []
        for key in keys:
            try:
                image, extra = self._read(key)
                ready.append((key, image, extra))
            except Exception as error:  # whatever is wrong with one picture must not cost the others their score
                found[key] = f"{self._name(key)}: {error}"
        try:
            embeddings = self._segmenter.embed([image for _, image, _ in ready])
        except Exception as error:
            return found | {key: f"SAM2 cannot embed {self._name(key)}: {error}" for key, _, _ in ready}
        self.computed += len(embeddings)
        new = {key: (embedding, extra) for (key, _, extra), embedding in zip(ready, embeddings, strict=True)}
        self._cache.update(new)
        return found | new
