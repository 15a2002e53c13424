"""Proves of generated dialogues that every target is the only thing that its question means."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from seg_zero.dialogue.data.records import UNUSABLE, BadRecord, DialogueRecord, Reading, reason_of
from seg_zero.dialogue.data.relations import NO, PART, PLAIN, Thing, matching, meant, relates
from seg_zero.dialogue.references import Asked, read_question

_PRONOUN = re.compile(r"\b(its|this)\b")


def prove(dialogue: DialogueRecord) -> list[str]:
    """What is wrong with the rounds that say by which rule they were chosen; empty if all targets are unique.

    Goes through all things of the picture, which the record holds with their masks.
    """
    if all(one.rule is None for one in dialogue.rounds):
        return []
    try:
        things = [Thing.of_record(record) for record in dialogue.things]
    except UNUSABLE as error:
        return [f"a thing of the picture: {reason_of(error)}"]
    faults = []
    truths = [one.truth() for one in dialogue.rounds]
    for number, one in enumerate(dialogue.rounds, start=1):
        if one.rule is None:
            continue
        words, relation = one.rule.get("words"), one.rule.get("relation")
        if not isinstance(relation, str) or not (isinstance(words, list) and all(isinstance(w, str) for w in words)):
            faults.append(f"round {number}: its rule has no words or no relation")
            continue
        targets = _things_with(things, truths[number - 1])
        references = [_things_with(things, truths[earlier - 1]) for earlier in one.asked.references]
        if len(targets) != 1 or any(len(some) != 1 for some in references):
            faults.append(f"round {number}: its target or what it refers to is no single thing of the picture")
            continue
        whole = one.rule.get("whole")
        described = isinstance(whole, list) and whole and all(isinstance(word, str) for word in whole)
        if whole is not None and not (relation == PART and described):
            faults.append(f"round {number}: relation {relation!r} does not go with the whole {whole!r}")
            continue
        if bool(references) == (relation == PLAIN or whole is not None):
            faults.append(f"round {number}: relation {relation!r} goes with {len(references)} references")
            continue
        numbers = [some[0] for some in references]
        if whole is not None:
            named = meant(things, whole, PLAIN, ())
            if named is None:
                faults.append(f"round {number}: its whole, {' '.join(whole)!r}, is no single thing")
                continue
            numbers = [named]
        try:
            found = meant(things, words, relation, numbers)
        except (ValueError, IndexError) as error:
            faults.append(f"round {number}: {error}")
            continue
        if not _says(one.asked, [*words, *(whole or ())], number):
            faults.append(f"round {number}: {one.asked.question!r} does not say its rule")
        if found != targets[0]:
            every = [relates(things, relation, thing, numbers) for thing in matching(things, words)]
            faults.append(
                f"round {number}: {one.asked.question!r} does not mean its target alone: the rule holds or may hold "
                f"for {sum(answer != NO for answer in every)} things"
            )
    return faults


def _says(asked: Asked, words: Sequence[str], number: int) -> bool:
    """Whether a question has the words and the references of its rule: each by its number, or the round before by
    "its" or "this"."""
    spoken = set(read_question(asked.question).references)
    by_pronoun = not spoken and asked.references == (number - 1,) and _PRONOUN.search(asked.question) is not None
    return (by_pronoun or spoken == set(asked.references)) and all(word in asked.question for word in words)


def with_proofs(reading: Reading) -> Reading:
    """The dialogues whose targets are unique and whose ids are new; the others are added to the bad ones."""
    proved = Reading(reading.name, [], list(reading.bad))
    bad = {one.number for one in reading.bad}
    numbers = (number for number in range(1, len(reading.dialogues) + len(bad) + 1) if number not in bad)
    named: dict[str, int] = {}
    for dialogue in reading.dialogues:
        number, faults = next(numbers), prove(dialogue)
        if named.setdefault(dialogue.id, number) != number:
            faults = [f"record {named[dialogue.id]} has the same id; give it another", *faults]
        if faults:
            proved.bad.append(BadRecord(number, dialogue.id, "; ".join(faults)))
        else:
            proved.dialogues.append(dialogue)
    proved.bad.sort(key=lambda bad: bad.number)
    return proved


def _things_with(things: Sequence[Thing], mask: np.ndarray) -> list[int]:
    return [number for number, thing in enumerate(things) if np.array_equal(thing.mask, mask)]
