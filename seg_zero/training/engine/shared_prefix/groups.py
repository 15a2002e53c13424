"""Which rows of a mini-batch share a prompt or its beginning, and how they are cut into micro-batches.

Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Part = list[int]  # rows that share a prompt, or its beginning


def equal_rows(keys: Sequence[Hashable]) -> list[Part]:
    """Rows of equal keys, in the order in which the keys first occur."""
    found: dict[Hashable, Part] = {}
    for row, key in enumerate(keys):
        found.setdefault(key, []).append(row)
    return list(found.values())


@dataclass(frozen=True)
class Lengths:
    """Tokens of each row's prompt and answer, and what prompts have in common.

    shared: how many first tokens the prompts of two rows of a group have in common. order: of rows of a group, so that
    those with much in common are neighbours.
    """

    prompts: Sequence[int]
    answers: Sequence[int]
    shared: Callable[[int, int], int]
    order: Callable[[int], Any]

    @classmethod
    def of_equal_prompts(cls, prompts: Sequence[int], answers: Sequence[int]) -> Lengths:
        """Of groups whose rows all have the same prompt."""
        return cls(prompts, answers, shared=lambda row, _: prompts[row], order=lambda _: 0)

    def added(self, part: Sequence[int], row: int) -> int:
        """Tokens that a row adds to rows which share what they have in common with it."""
        common = max((self.shared(row, other) for other in part), default=0)
        return self.prompts[row] - common + self.answers[row]

    def cost(self, part: Sequence[int]) -> int:
        """Tokens that the rows of a part take, those they share counted once."""
        return sum(self.added(part[:place], row) for place, row in enumerate(part))


def micro_batches(groups: Sequence[Part], lengths: Lengths, limit: int, count: int = 0) -> list[list[Part]]:
    """Micro-batches of whole groups, the longest answers first.

    groups: rows that share a prompt, or its beginning. limit: tokens of one micro-batch, those shared counted once.
    A group above it is cut into parts that each compute what they share again, and a part of one row above it stands
    alone. count: at least so many micro-batches, if there are rows enough; groups are cut for it only where whole ones
    do not suffice. Every row occurs once.
    """
    parts = [part for group in groups for part in _cut(group, lengths, limit)]
    parts.sort(key=lambda part: (-max(lengths.answers[row] for row in part), part[0]))
    batches: list[list[Part]] = []
    room = 0
    for part in parts:
        cost = lengths.cost(part)
        if not batches or cost > room:
            batches.append([])
            room = limit
        batches[-1].append(part)
        room -= cost
    while len(batches) < min(count, sum(map(len, groups))):
        place = max(range(len(batches)), key=lambda i: (len(batches[i]) > 1, sum(map(len, batches[i])), -i))
        batch = batches[place]
        if len(batch) == 1:
            (part,) = batch
            halves = [[part[: len(part) // 2]], [part[len(part) // 2 :]]]
        else:
            halves = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        batches[place : place + 1] = halves
    return batches


def _cut(group: Part, lengths: Lengths, limit: int) -> list[Part]:
    """A group in as few parts below the limit as its order allows, each prompt's longest answers first."""
    parts: list[Part] = []
    room = 0
    for row in sorted(group, key=lambda row: (lengths.order(row), -lengths.answers[row], row)):
        cost = lengths.added(parts[-1], row) if parts else 0
        if not parts or cost > room:
            parts.append([])
            room, cost = limit, lengths.added((), row)
        parts[-1].append(row)
        room -= cost
    return parts


def spread_groups(groups: Sequence[Part], costs: Sequence[int], ranks: int) -> list[list[int]]:
    """Groups for each of ``ranks`` workers, so that their costs are about equal and no group is cut.

    groups, costs: rows and cost of each. Every worker gets as many rows as the others, as verl's dispatch cuts a batch
    into equal slices; where whole groups cannot do that, a group is divided between neighbours. Returns the rows of
    each worker.
    """
    rows = sum(map(len, groups))
    if rows % ranks:
        raise ValueError(f"{rows} rows do not divide among {ranks} workers")
    each = rows // ranks
    shares: list[list[int]] = [[] for _ in range(ranks)]
    spent = [0] * ranks
    rest: list[Part] = []
    for number in sorted(range(len(groups)), key=lambda i: (-costs[i], i)):
        fitting = [rank for rank in range(ranks) if len(shares[rank]) + len(groups[number]) <= each]
        if fitting:
            rank = min(fitting, key=lambda rank: (spent[rank], rank))
            shares[rank].extend(groups[number])
            spent[rank] += costs[number]
        else:
            rest.append(groups[number])
    for group in rest:
        left = list(group)
        for share in shares:
            room = each - len(share)
            share.extend(left[:room])
            left = left[room:]
    return shares


def balance(keys: Sequence[str], tags: Sequence[Mapping[str, Any]], ranks: int) -> tuple[list[int], list[int]]:
    """An order of a batch's rows by which verl's equal slices for the workers are whole groups of about equal cost.

    keys, tags: verl's names of samples, PROMPT_SESSION_NUMBER, and their lengths. Of the rounds of a dialogue, the
    shorter prompts are taken for beginnings of the longer ones, which is about right. Within a worker, prompts are in
    the order of their (random) names, so that no update gets the long answers of a step. Returns the order, and the
    tokens that each worker computes.
    """
    prompts, answers = ([int(tag[name]) for tag in tags] for name in ("prompt_len", "response_len"))
    names = [key.split("_")[0] for key in keys]
    groups = equal_rows(names)
    lengths = Lengths(prompts, answers, shared=lambda row, other: min(prompts[row], prompts[other]), order=lambda _: 0)
    shares = spread_groups(groups, [lengths.cost(group) for group in groups], ranks)
    order: list[int] = []
    costs = []
    for share in shares:
        parts = sorted(equal_rows([names[row] for row in share]), key=lambda part: names[share[part[0]]])
        here = [[share[row] for row in part] for part in parts]
        costs.append(sum(map(lengths.cost, here)))
        order.extend(row for part in here for row in part)
    return order, costs
