"""What a conversation remembers: its rounds, and what of them a question can refer to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from seg_zero.dialogue.references import Asked
from seg_zero.errors import InputError
from seg_zero.masks import mask_to_prompt_object
from seg_zero.objects import PromptObject
from seg_zero.results.result import SegmentationResult

MAX_ROUNDS = 20
GIVEN = 0  # the number of a region that came with the question


@dataclass(frozen=True, eq=False)
class Instance:
    """What a round found, or a region given with a question (number GIVEN).

    name: the question that found it; masks: boolean N x H x W, one per object, N = 0 if nothing was found; low_res:
    float N x h x w logits of the masks, None if there are none.
    """

    number: int
    name: str
    masks: np.ndarray = field(repr=False)
    low_res: np.ndarray | None = field(default=None, repr=False)

    @classmethod
    def of_mask(cls, number: int, name: str, mask: np.ndarray) -> Instance:
        """One object with this mask (boolean H x W), or none if it is empty."""
        return cls(number, name, mask[None] if mask.any() else mask[None][:0])

    @cached_property
    def mask(self) -> np.ndarray:
        """The union of its masks, boolean H x W."""
        return np.asarray(self.masks.any(axis=0))

    @cached_property
    def prompts(self) -> tuple[PromptObject, ...]:
        """Box and points of each mask; kept, since every later round may name them."""
        return tuple(mask_to_prompt_object(mask) for mask in self.masks)

    @property
    def found(self) -> bool:
        return bool(len(self.masks))


@dataclass(frozen=True, eq=False)
class Round:
    """One question and its answer. given: boolean N x H x W, regions that the user gave as a reference."""

    asked: Asked
    result: SegmentationResult
    given: np.ndarray | None = field(default=None, repr=False)
    low_res: np.ndarray | None = field(default=None, repr=False)
    _instances: dict[int, Instance] = field(default_factory=dict, init=False, repr=False)

    @property
    def question(self) -> str:
        return self.asked.question

    @property
    def references(self) -> tuple[int, ...]:
        return self.asked.references

    @property
    def mask(self) -> np.ndarray:
        return self.result.mask

    @property
    def found(self) -> bool:
        return self.result.found

    def instance(self, number: int) -> Instance:
        """What later questions can refer to as round ``number``; the same one for all of them."""
        if number not in self._instances:
            kept = [place for place, mask in enumerate(self.result.masks) if mask.any()]
            masks = self.result.masks if len(kept) == len(self.result.masks) else self.result.masks[kept]
            low_res = None if self.low_res is None else self.low_res[kept]
            self._instances[number] = Instance(number, self.question, masks, low_res)
        return self._instances[number]


@dataclass(frozen=True)
class Memory:
    """The rounds of one conversation about one picture; each change makes a new memory."""

    rounds: tuple[Round, ...] = ()
    max_rounds: int = MAX_ROUNDS

    def __post_init__(self) -> None:
        if isinstance(self.max_rounds, bool) or not isinstance(self.max_rounds, int) or self.max_rounds < 1:
            raise InputError(f"max_rounds={self.max_rounds!r} is not a whole number from 1 up")

    @property
    def instances(self) -> tuple[Instance, ...]:
        return tuple(item.instance(number) for number, item in enumerate(self.rounds, start=1))

    def check(self, asked: Asked, *, allow_empty: bool = False) -> None:
        """Raises InputError if there is no room for another round, or as :func:`check_references`."""
        if len(self.rounds) >= self.max_rounds:
            raise InputError(f"the dialogue has its {self.max_rounds} rounds; undo some, or begin another")
        check_references(asked, [item.found for item in self.rounds], allow_empty=allow_empty)

    def added(self, item: Round) -> Memory:
        return replace(self, rounds=(*self.rounds, item))

    def undone(self) -> Memory:
        """Without the last round. Raises InputError if there is none."""
        if not self.rounds:
            raise InputError("there is no round to undo; ask a question first")
        return replace(self, rounds=self.rounds[:-1])


def check_references(asked: Asked, found: Sequence[bool], *, allow_empty: bool = False) -> None:
    """Check references against the earlier rounds, of which ``found`` says whether each has an object.

    Raises InputError for a later or missing round, and unless ``allow_empty`` for one without an object.
    """
    for number in asked.references:
        if number > len(found):
            there = {0: "there is no earlier round", 1: "there is only round 1"}
            known = there.get(len(found), f"there are rounds 1 to {len(found)}")
            raise InputError(f"the question refers to round {number}, but {known}; name an earlier round")
        if not allow_empty and not found[number - 1]:
            raise InputError(f"the question refers to round {number}, which found no object; name another round")
