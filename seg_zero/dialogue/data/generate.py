"""Dialogues about the things of a picture: each round asks for one thing, mostly by its relation to earlier ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from seg_zero.dialogue.data.records import TrueRound
from seg_zero.dialogue.data.relations import BETWEEN, OTHER, PART, PLAIN, POSITIONS, Thing, matching, meant
from seg_zero.dialogue.references import HIERARCHICAL, Asked
from seg_zero.errors import InputError
from seg_zero.masks import encode_mask

# What is asked for, by the relation; {x} is the noun, {k} and {l} are rounds.
PHRASES: dict[str, tuple[str, ...]] = {
    PLAIN: ("the {x}",),
    "left of": ("the {x} left of instance {k}", "the {x} to the left of instance {k}"),
    "right of": ("the {x} right of instance {k}", "the {x} to the right of instance {k}"),
    "above": ("the {x} above instance {k}", "the {x} higher up than instance {k}"),
    "below": ("the {x} below instance {k}", "the {x} lower down than instance {k}"),
    "next to": ("the {x} next to instance {k}", "the {x} close to instance {k}"),
    OTHER: ("the other {x}, not instance {k}", "the {x} that is not instance {k}"),
    PART: ("the {x} of instance {k}",),
    BETWEEN: ("the {x} between instance {k} and instance {l}",),
}
# How it is asked for. "lisa": the short forms that LISA's data sets use. "sesame": the form of SESAME's questions, in
# our own words: whether it is there, its mask if so, and otherwise that it is missing and what could be taken for it.
FORMS: dict[str, tuple[str, ...]] = {
    "own": ("{phrase}",),
    "sentences": ("Please mark {phrase}.", "Where is {phrase}?", "Show me {phrase}.", "Which one is {phrase}?"),
    "lisa": (
        "Can you segment {phrase} in this image?",
        "Please segment {phrase} in this image.",
        "What is {phrase} in this image? Please respond with segmentation mask.",
        "What is {phrase} in this image? Please output segmentation mask.",
    ),
    "sesame": (
        "Can you see {phrase} here? Segment it if you can. If it is missing, say so and name what comes close.",
        "Is {phrase} in the picture? If it is, give me its mask. If not, tell me, and name anything similar.",
        "Look for {phrase}. Return its mask if you find it; otherwise say that it is not there and what could be "
        "confused with it.",
        "Tell me whether the image shows {phrase}, and segment it if so. Otherwise deny it and list what looks alike.",
    ),
}
_KINDS = {PLAIN: "", PART: HIERARCHICAL}  # the relation's kind, where it is not positional
POSITIONAL = "positional"


@dataclass(frozen=True)
class Description:
    """A thing by words and a relation to rounds. target, references: numbers of things; rounds: of the references."""

    words: tuple[str, ...]
    relation: str
    target: int
    references: tuple[int, ...] = ()
    rounds: tuple[int, ...] = ()

    @property
    def rule(self) -> dict[str, object]:
        return {"words": list(self.words), "relation": self.relation}


def noun_of(words: Sequence[str], things: Sequence[Thing], general: str) -> str:
    """The words as a noun phrase; without a noun among them, ``general`` is it."""
    nouns = {thing.noun for thing in things}
    return " ".join([*words, *([] if words and words[-1] in nouns else [general])])


def make_rounds(
    things: Sequence[Thing], rng: np.random.Generator, rounds: int, *, forms: str = "own", general: str | None = None
) -> list[TrueRound]:
    """Up to ``rounds`` rounds, each about another thing than the rounds before; fewer if no more can be asked.

    forms: a key of FORMS; general: the noun of a whole thing whose own noun is not said, None if it always is, as where
    ``things`` are not all that is in the picture. Every target is the only thing that its description means. Raises
    InputError for unknown forms.
    """
    if forms not in FORMS:
        raise InputError(f"forms {forms!r} are not known; choose one of {', '.join(FORMS)}")
    made: list[TrueRound] = []
    asked_for: list[int] = []
    for number in range(1, rounds + 1):
        choices = list(_first(things) if number == 1 else _later(things, asked_for))
        by_relation: dict[str, list[Description]] = {}
        for choice in choices:
            target = things[choice.target]
            named = target.noun in choice.words
            if choice.target not in asked_for and (named or (general is not None and target.part_of is None)):
                by_relation.setdefault(choice.relation, []).append(choice)
        if not by_relation:
            break
        # Relations take turns by chance, whichever of them the scene allows more often.
        some = by_relation[sorted(by_relation)[int(rng.integers(len(by_relation)))]]
        chosen = some[int(rng.integers(len(some)))]
        asked_for.append(chosen.target)
        made.append(_round(chosen, things, rng, forms, general or ""))
    return made


def _first(things: Sequence[Thing]) -> Iterator[Description]:
    for target, thing in enumerate(things):
        for words in _subsets(thing.words):
            if words and thing.part_of is None and meant(things, words, PLAIN, ()) == target:
                yield Description(words, PLAIN, target)


def _later(things: Sequence[Thing], asked_for: Sequence[int]) -> Iterator[Description]:
    """What can be asked by a reference, and not by the words alone."""
    vocabulary = list(dict.fromkeys(words for thing in things for words in _subsets(thing.words)))
    for words in vocabulary:
        several = matching(things, words)
        if len(several) < 2 and not (several and things[several[0]].part_of is not None):
            continue
        for number, reference in enumerate(asked_for, start=1):
            for relation in (*POSITIONS, PART):
                yield from _meant(things, words, relation, (reference,), (number,))
            if len(several) == 2 and reference in several:
                yield from _meant(things, words, OTHER, (reference,), (number,))
        for (one, first), (two, second) in combinations(enumerate(asked_for, start=1), 2):
            yield from _meant(things, words, BETWEEN, (first, second), (one, two))


def _meant(
    things: Sequence[Thing], words: tuple[str, ...], relation: str, references: tuple[int, ...], rounds: tuple[int, ...]
) -> Iterator[Description]:
    target = meant(things, words, relation, references)
    if target is not None:
        yield Description(words, relation, target, references, rounds)


def _subsets(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Of an object's words, in their order, the empty one included."""
    return [some for count in range(len(words) + 1) for some in combinations(words, count)]


def _round(
    chosen: Description, things: Sequence[Thing], rng: np.random.Generator, forms: str, general: str
) -> TrueRound:
    phrases, wordings = PHRASES[chosen.relation], FORMS[forms]
    phrase = phrases[int(rng.integers(len(phrases)))].replace("{x}", noun_of(chosen.words, things, general))
    for name, number in zip("kl", chosen.rounds, strict=False):
        phrase = phrase.replace(f"{{{name}}}", str(number))
    question = wordings[int(rng.integers(len(wordings)))].replace("{phrase}", phrase)
    asked = Asked(question, chosen.rounds, _KINDS.get(chosen.relation, POSITIONAL))
    return TrueRound(asked, encode_mask(things[chosen.target].mask), (), chosen.rule)
