"""Dialogues about the things of a picture: each round asks for one thing, mostly by its relation to earlier ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from seg_zero.dialogue.data.records import TrueRound
from seg_zero.dialogue.data.relations import (
    BETWEEN,
    OTHER,
    PART,
    PLAIN,
    POSITIONS,
    SIBLING,
    WHOLE,
    Meanings,
    Thing,
)
from seg_zero.dialogue.references import HIERARCHICAL, Asked
from seg_zero.errors import InputError
from seg_zero.masks import encode_mask

# What is asked for, by the relation; {x} is the noun, {k} and {l} are rounds, {g} is the noun of any whole thing.
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
    SIBLING: ("the {x} of the same {g} as instance {k}",),
    WHOLE: ("the {x} that instance {k} belongs to", "the {x} that instance {k} is a part of"),
}
# The same about the round before, without its number; {r} is the noun of what that round asked for.
PRONOUNS: dict[str, str] = {PART: "its {x}", SIBLING: "its {x}", WHOLE: "the {x} that this {r} belongs to"}
# A part of a thing that the question describes; {w} is that thing's noun.
NAMED_WHOLE = "the {x} of the {w}"
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
# The relation's kind, where it is not positional. Only a part lies inside what its question refers to.
_KINDS = {PLAIN: "", PART: HIERARCHICAL, SIBLING: "sibling", WHOLE: "whole"}
_OF_PARTS = (PART, SIBLING, WHOLE)
POSITIONAL = "positional"


@dataclass(frozen=True)
class Description:
    """A thing by words and a relation to rounds. target, references: numbers of things; rounds: of the references;
    whole: for a part without a reference, the words of the thing that it is a part of."""

    words: tuple[str, ...]
    relation: str
    target: int
    references: tuple[int, ...] = ()
    rounds: tuple[int, ...] = ()
    whole: tuple[str, ...] = ()

    @property
    def rule(self) -> dict[str, object]:
        named = {"whole": list(self.whole)} if self.whole else {}
        return {"words": list(self.words), "relation": self.relation, **named}


def noun_of(words: Sequence[str], things: Sequence[Thing], general: str) -> str:
    """The words as a noun phrase; without a noun among them, ``general`` is it."""
    nouns = {thing.noun for thing in things}
    return " ".join([*words, *([] if words and words[-1] in nouns else [general])])


def make_rounds(
    things: Sequence[Thing],
    rng: np.random.Generator,
    rounds: int,
    *,
    forms: str = "own",
    general: str | None = None,
    all_of_parts: bool = False,
) -> list[TrueRound]:
    """Up to ``rounds`` rounds, each about another thing than the rounds before; fewer if no more can be asked.

    forms: a key of FORMS; general: the noun of a whole thing whose own noun is not said, None if it always is, as where
    ``things`` are not all that is in the picture; all_of_parts: about half of the rounds ask for a part of an earlier
    thing or of one that is named, for another part of the same thing, or for the thing that a part belongs to. Every
    target is the only thing that its description means. Raises InputError for unknown forms.
    """
    if forms not in FORMS:
        raise InputError(f"forms {forms!r} are not known; choose one of {', '.join(FORMS)}")
    made: list[TrueRound] = []
    asked_for: list[int] = []
    meanings = Meanings(things)
    for number in range(1, rounds + 1):
        choices = list(_first(meanings) if number == 1 else _later(meanings, asked_for))
        if all_of_parts:
            choices += _of_parts(meanings, asked_for)
        by_relation: dict[tuple[str, bool], list[Description]] = {}
        for choice in choices:
            target = things[choice.target]
            named = target.noun in choice.words
            if choice.target not in asked_for and (named or (general is not None and target.part_of is None)):
                by_relation.setdefault((choice.relation, bool(choice.whole)), []).append(choice)
        if not by_relation:
            break
        relations = sorted(by_relation)
        if all_of_parts:
            wanted = bool(rng.random() < 0.5)
            relations = [each for each in relations if (each[0] in _OF_PARTS) == wanted] or relations
        # Relations take turns by chance, whichever of them the scene allows more often.
        some = by_relation[relations[int(rng.integers(len(relations)))]]
        chosen = some[int(rng.integers(len(some)))]
        asked_for.append(chosen.target)
        phrase = _phrase(chosen, things, rng, general, number if all_of_parts else None)
        made.append(_round(chosen, things, rng, forms, phrase))
    return made


def _first(meanings: Meanings) -> Iterator[Description]:
    for target, thing in enumerate(meanings.things):
        for words in _subsets(thing.words):
            if words and thing.part_of is None and meanings.meant(words, PLAIN, ()) == target:
                yield Description(words, PLAIN, target)


def _later(meanings: Meanings, asked_for: Sequence[int]) -> Iterator[Description]:
    """What can be asked by a reference, and not by the words alone."""
    things = meanings.things
    vocabulary = list(dict.fromkeys(words for thing in things for words in _subsets(thing.words)))
    for words in vocabulary:
        several = meanings.matching(words)
        if len(several) < 2 and not (several and things[several[0]].part_of is not None):
            continue
        for number, reference in enumerate(asked_for, start=1):
            for relation in (*POSITIONS, PART):
                yield from _meant(meanings, words, relation, (reference,), (number,))
            if len(several) == 2 and reference in several:
                yield from _meant(meanings, words, OTHER, (reference,), (number,))
        for (one, first), (two, second) in combinations(enumerate(asked_for, start=1), 2):
            yield from _meant(meanings, words, BETWEEN, (first, second), (one, two))


def _of_parts(meanings: Meanings, asked_for: Sequence[int]) -> Iterator[Description]:
    """Parts of named things; what belongs to the same thing as a part asked for earlier, and that thing."""
    things = meanings.things
    wholes = {
        words: place
        for place, thing in enumerate(things)
        for words in _subsets(thing.words)
        if words and thing.part_of is None and meanings.meant(words, PLAIN, ()) == place
    }
    for words in dict.fromkeys(
        words for thing in things if thing.part_of is not None for words in _subsets(thing.words)
    ):
        for whole, place in wholes.items():
            for found in _meant(meanings, words, PART, (place,), ()):
                yield replace(found, references=(), whole=whole)
    parts = [(place, number) for number, place in enumerate(asked_for, start=1) if things[place].part_of is not None]
    for words in dict.fromkeys(words for thing in things for words in _subsets(thing.words)):
        for place, number in parts:
            yield from _meant(meanings, words, SIBLING, (place,), (number,))
            if len(meanings.matching(words)) > 1:
                yield from _meant(meanings, words, WHOLE, (place,), (number,))


def _meant(
    meanings: Meanings, words: tuple[str, ...], relation: str, references: tuple[int, ...], rounds: tuple[int, ...]
) -> Iterator[Description]:
    target = meanings.meant(words, relation, references)
    if target is not None:
        yield Description(words, relation, target, references, rounds)


def _subsets(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Of an object's words, in their order, the empty one included."""
    return [some for count in range(len(words) + 1) for some in combinations(words, count)]


def _phrase(
    chosen: Description, things: Sequence[Thing], rng: np.random.Generator, general: str | None, number: int | None
) -> str:
    """What a question asks for. number: of the round, if it may speak of the one before without naming it."""
    if chosen.whole:
        phrase = NAMED_WHOLE
    elif number is not None and chosen.rounds == (number - 1,) and chosen.relation in PRONOUNS and rng.random() < 0.5:
        phrase = PRONOUNS[chosen.relation]
    else:
        phrases = PHRASES[chosen.relation]
        phrase = phrases[int(rng.integers(len(phrases)))]
    put = {
        "x": noun_of(chosen.words, things, general or ""),
        "w": noun_of(chosen.whole, things, general or ""),
        "r": things[chosen.references[0]].noun if chosen.references else "",
        "g": general or "object",
        **dict(zip("kl", map(str, chosen.rounds), strict=False)),
    }
    return re.sub(r"\{(\w)\}", lambda match: put[match[1]], phrase)


def _round(
    chosen: Description, things: Sequence[Thing], rng: np.random.Generator, forms: str, phrase: str
) -> TrueRound:
    wordings = FORMS[forms]
    question = wordings[int(rng.integers(len(wordings)))].replace("{phrase}", phrase)
    # Nothing is referred to where the whole is named.
    kind = "" if chosen.whole else _KINDS.get(chosen.relation, POSITIONAL)
    asked = Asked(question, chosen.rounds, kind)
    return TrueRound(asked, encode_mask(things[chosen.target].mask), (), chosen.rule)
