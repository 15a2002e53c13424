"""How a mini-batch of padded sequences is cut into micro-batches. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def group_by_length(lengths: Sequence[int], limit: int, count: int = 0) -> list[list[int]]:
    """Rows in groups of like length, the longest first: as few groups as possible, then as little padding as possible.

    lengths: tokens of each row. limit: tokens of one micro-batch, padding included; a longer row gets its own group.
    count: at least so many groups, if there are rows enough. Returns row numbers; every row occurs once.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    # best[i]: groups and computed positions of the first i rows in order, and where their last group starts.
    best: list[tuple[int, int, int]] = [(0, 0, 0)]
    for end in range(1, len(order) + 1):
        choices = []
        for start in range(end - 1, -1, -1):
            padded = (end - start) * lengths[order[start]]
            if padded > limit and end - start > 1:
                break
            choices.append((best[start][0] + 1, best[start][1] + padded, start))
        best.append(min(choices))
    groups: list[list[int]] = []
    end = len(order)
    while end:
        start = best[end][2]
        groups.insert(0, order[start:end])
        end = start
    while len(groups) < min(count, len(order)):
        place = max(range(len(groups)), key=lambda i: (len(groups[i]), -i))
        group = groups[place]
        groups[place : place + 1] = [group[: len(group) // 2], group[len(group) // 2 :]]
    return groups


def padding_share(shapes: Iterable[Sequence[int]]) -> float:
    """Padding as a fraction of all positions, when each micro-batch (lengths of its rows) is padded to its longest."""
    computed = real = 0
    for lengths in shapes:
        computed += max(lengths) * len(lengths)
        real += sum(lengths)
    return 1.0 - real / computed if computed else 0.0
