"""Where the segments of a prefix tree lie in one flat row of tokens, and what each of them attends to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

from seg_zero.training.engine.shared_prefix.tree import Segment


class Level:
    """All segments of one depth, as the rows of one call of the attention kernel.

    count, length: segments, and tokens of the longest.
    places: (count * length,) place of each token in the flat row; 0 beyond a segment's end. Or None if the segments
        are equally long and adjacent from ``start`` on, so that a view does.
    children: how many segments continue each parent, in the order of the parents; empty at the roots.
    past: tokens of the longest path to a parent's end.
    history: (parents * past,) places of all that comes before, from the root on; 0 beyond the end. None at the roots,
        which have nothing before them, and if the parents are all the roots, whose keys and values are at hand.
    """

    def __init__(
        self,
        spans: Sequence[tuple[int, int]],
        children: Sequence[int] = (),
        paths: Sequence[list[int]] = (),
        after_roots: bool = False,
    ) -> None:
        """spans: start and length of each segment. paths: places of all tokens before the children of each parent."""
        lengths = [length for _, length in spans]
        self.count, self.length = len(spans), max(lengths)
        self.start = spans[0][0]
        adjacent = all(a + n == b for (a, n), (b, _) in pairwise(spans))
        self.places: torch.Tensor | None = None
        if not adjacent or min(lengths) < self.length:
            self.places = torch.cat([_padded(range(start, start + n), self.length) for start, n in spans])
        self.children = tuple(children)
        self.history: torch.Tensor | None = None
        self.past = max(map(len, paths), default=0)
        self._bias: torch.Tensor | None = None
        if paths:
            if not after_roots:
                self.history = torch.cat([_padded(path, self.past) for path in paths])
            self._bias = self._mask([len(path) for path in paths])

    def _mask(self, past: Sequence[int]) -> torch.Tensor:
        """What segments see: all of their path, and themselves up to each token. (count or 1, 1, length, past + length)

        One for all of them if their paths are equally long: what lies beyond a segment's end no one looks at.
        """
        own = torch.ones(self.length, self.length, dtype=torch.bool).tril()
        if min(past) == self.past:
            before = torch.ones(1, self.length, self.past, dtype=torch.bool)
        else:
            lengths = torch.tensor(past).repeat_interleave(torch.tensor(self.children))
            before = (torch.arange(self.past) < lengths[:, None])[:, None].expand(-1, self.length, -1)
        seen = torch.cat([before, own.expand(len(before), -1, -1)], -1)[:, None]
        return torch.zeros(seen.shape).masked_fill_(~seen, float("-inf"))

    def move(self, device: torch.device | str) -> None:
        for name in ("places", "history", "_bias"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, value.to(device))

    def bias(self, dtype: torch.dtype) -> torch.Tensor:
        """Added to the attention scores: 0 where a token is seen, else minus infinity; see :meth:`_mask`."""
        assert self._bias is not None, "roots are causal"
        if self._bias.dtype != dtype:
            self._bias = self._bias.to(dtype)
        return self._bias


class Layout:
    """A forest of segments in one flat row: [root | its children, each followed by its own | next root ...].

    tokens: length of the row. levels: its segments by depth. order: (tokens,) place of each token of the row in the
    padded levels, one after the other; None if that is their order. spans: where each segment of the forest starts
    and how long it is.
    """

    def __init__(self, forest: Sequence[Segment]) -> None:
        """forest: as from :func:`seg_zero.training.engine.shared_prefix.tree.prefix_tree`, parents first."""
        self.spans, at = [], 0
        for segment in forest:
            self.spans.append((at, segment.stop - segment.start))
            at += segment.stop - segment.start
        self.tokens = at
        self._parents = [segment.parent for segment in forest]
        self._last = {row: number for number, segment in enumerate(forest) for row in segment.rows}
        depths: list[int] = []
        for parent in self._parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        levels = [[n for n, depth in enumerate(depths) if depth == level] for level in range(max(depths) + 1)]
        self.levels: list[Level] = []
        kept: list[torch.Tensor] = []  # of each segment, in order of the levels: its places in the padded levels
        numbers: list[int] = []
        offset = 0
        for depth, segments in enumerate(levels):
            own = [self._parents[number] for number in segments]
            parents = sorted(set(own)) if depth else []
            assert own == sorted(own), "children lie in the order of their parents"
            level = Level(
                [self.spans[number] for number in segments],
                [own.count(parent) for parent in parents],
                [self.path(parent) for parent in parents],
                after_roots=depth == 1 and parents == levels[0],
            )
            self.levels.append(level)
            for place, number in enumerate(segments):
                first = offset + place * level.length
                kept.append(torch.arange(first, first + self.spans[number][1]))
                numbers.append(number)
            offset += level.count * level.length
        joined = torch.cat([places for _, places in sorted(zip(numbers, kept, strict=True), key=lambda pair: pair[0])])
        self.order = None if offset == at and joined.equal(torch.arange(at)) else joined

    def path(self, number: int) -> list[int]:
        """Places in the flat row of all tokens from a root to the end of segment ``number``."""
        places: list[int] = []
        while number >= 0:
            start, length = self.spans[number]
            places[:0] = range(start, start + length)
            number = self._parents[number]
        return places

    def places(self, row: int) -> torch.Tensor:
        """(tokens of a sequence,) where each token of sequence ``row`` of the tree lies in the flat row."""
        return torch.tensor(self.path(self._last[row]))

    def moved(self, device: torch.device | str) -> Layout:
        """Itself, with all tensors on ``device``. (Not named ``to``, which FSDP would call for every layer.)"""
        for level in self.levels:
            level.move(device)
        if self.order is not None:
            self.order = self.order.to(device)
        return self


def _padded(places: Sequence[int], length: int) -> torch.Tensor:
    filled = torch.zeros(length, dtype=torch.long)
    filled[: len(places)] = torch.as_tensor(list(places), dtype=torch.long)
    return filled
