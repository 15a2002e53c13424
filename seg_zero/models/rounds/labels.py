"""Rounds of dialogues as the tiny policy is taught them: by the crowd of annotators of single questions.

A careful annotator says which earlier answers a question is about, the boxes that the prompt gives for them and what is
there, then what is asked for, how it is related to them and where, and marks it exactly. A hasty one glances at a
colour and marks something of that colour, whatever the question refers to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.synthetic.scenes import COLOURS
from seg_zero.dialogue.data.generate import make_rounds
from seg_zero.dialogue.data.records import TrueRound
from seg_zero.dialogue.data.relations import BETWEEN, OTHER, PART, POSITIONS, SIBLING, WHOLE, Thing
from seg_zero.dialogue.data.synthetic import PARTS, make_things
from seg_zero.dialogue.memory import Instance
from seg_zero.dialogue.renderers import renderer_for
from seg_zero.masks import mask_to_prompt_object
from seg_zero.models.tiny_policy_data import CAREFUL_OPENING, COLOUR_ONLY_SHARE, loose_object, place_of
from seg_zero.models.tiny_policy_model import SPEC
from seg_zero.models.tiny_policy_tokenizer import IMAGE_SIZE
from seg_zero.objects import PromptObject

# What the picture shows, and how often: shapes, shapes with cores, shapes with caps, stripes and bases.
SCENES: dict[tuple[str, bool], float] = {("shapes", False): 0.3, ("shapes", True): 0.5, ("parts", False): 0.2}
SENTENCES = 0.15  # of the dialogues: questions are whole sentences
LONGEST = 6  # rounds
FIRST = 0.1  # of the labels are of a first round, which has no history
# How a careful thought goes on from what it cites, by the question's relation.
WORDS: dict[str, str] = {
    **{name: f"{name} it" for name in POSITIONS},
    OTHER: "not it",
    PART: "part of it",
    SIBLING: "beside it",
    WHOLE: "around it",
    BETWEEN: "between",
}
# What re-enters in place of a true answer: another thing's mask, or none. Only where the question does not refer to it
# another thing can stand, since the reference would mean something else.
ANOTHER, NONE = 0.25, 0.05


@dataclass(frozen=True)
class RoundLabel:
    """One annotator's response to one round.

    context, question: the prompt. path: the things that the response speaks of, in this order; the last one is marked.
    """

    context: str
    question: str
    text: str
    path: tuple[int, ...]


@dataclass(frozen=True)
class RoundsLesson:
    image: Image.Image
    things: tuple[Thing, ...]
    labels: tuple[RoundLabel, ...]


@dataclass(frozen=True)
class Dialogue:
    """A scripted dialogue about things. targets: of each round, as a number of a thing."""

    image: Image.Image
    things: tuple[Thing, ...]
    rounds: tuple[TrueRound, ...]
    targets: tuple[int, ...]


def draw_things(rng: np.random.Generator) -> tuple[Image.Image, tuple[Thing, ...]]:
    """A picture of one of :data:`SCENES`, and the things in it."""
    kinds = list(SCENES)
    scenes, parts = kinds[int(rng.choice(len(kinds), p=list(SCENES.values())))]
    return make_things(rng, IMAGE_SIZE, parts, scenes)


def draw_dialogue(rng: np.random.Generator) -> Dialogue:
    """A dialogue of two rounds or more."""
    while True:
        image, things = draw_things(rng)
        forms = "sentences" if rng.random() < SENTENCES else "own"
        of_parts = any(thing.noun in PARTS for thing in things)
        made = make_rounds(things, rng, LONGEST, forms=forms, general="shape", all_of_parts=of_parts)
        if len(made) > 1:
            masks = [thing.record()["mask"] for thing in things]
            return Dialogue(image, things, tuple(made), tuple(masks.index(one.mask) for one in made))


def make_rounds_lesson(seed: tuple[int, ...], count: int, *, carry: str, careful: float) -> RoundsLesson:
    """A picture and ``count`` labels of rounds of one dialogue. carry: of the renderer; careful: their fraction."""
    rng = np.random.default_rng(seed)
    dialogue = draw_dialogue(rng)
    later = rng.permutation(len(dialogue.rounds) - 1) + 1
    labels = []
    for turn in range(count):
        number = 0 if rng.random() < FIRST else int(later[turn % len(later)])
        labels.append(label_round(dialogue, number, rng, carry=carry, careful=careful))
    return RoundsLesson(dialogue.image, dialogue.things, tuple(labels))


def label_round(dialogue: Dialogue, number: int, rng: np.random.Generator, *, carry: str, careful: float) -> RoundLabel:
    """A label of round ``number`` (from 0), after a history that is mostly true."""
    one = dialogue.rounds[number]
    earlier = [_reentered(dialogue, place, place + 1 in one.asked.references, rng) for place in range(number)]
    rendered = renderer_for("text", carry).render(dialogue.image, earlier, one.asked, SPEC)
    if rng.random() < careful:
        text, path = _careful(dialogue, number, earlier)
    else:
        text, path = _hasty(dialogue, number, rng)
    return RoundLabel(rendered.context, one.asked.question, text, path)


def _reentered(dialogue: Dialogue, place: int, referred: bool, rng: np.random.Generator) -> Instance:
    """What earlier round ``place`` is said to have found."""
    question, mask = dialogue.rounds[place].asked.question, dialogue.things[dialogue.targets[place]].mask
    chance = rng.random()
    if chance < NONE:
        mask = np.zeros_like(mask)
    elif not referred and chance < NONE + ANOTHER:
        mask = dialogue.things[int(rng.integers(len(dialogue.things)))].mask
    return Instance.of_mask(place + 1, question, mask)


def _careful(dialogue: Dialogue, number: int, earlier: Sequence[Instance]) -> tuple[str, tuple[int, ...]]:
    asked, target = dialogue.rounds[number].asked, dialogue.targets[number]
    thing = dialogue.things[target]
    item = mask_to_prompt_object(thing.mask)
    seen = f"the {' '.join(thing.words)}, {place_of(*item.points[0])}"
    if asked.references:
        cited = [
            _cited(earlier[reference - 1], dialogue.things[dialogue.targets[reference - 1]])
            for reference in asked.references
        ]
        seen = f"{' and '.join(cited)} then {WORDS[(dialogue.rounds[number].rule or {})['relation']]} {seen}"
    path = (*(dialogue.targets[reference - 1] for reference in asked.references), target)
    return write_answer(f"{CAREFUL_OPENING} {seen}", write_solution_multi([item])), path


def _cited(item: Instance, thing: Thing) -> str:
    """An earlier answer as a careful thought names it: its box, and what is there; its number alone if it is empty."""
    if not item.found:
        return f"instance {item.number}"
    box = ",".join(str(round(value)) for value in item.prompts[0].box or ())
    return f"instance {item.number} [{box}], the {' '.join(thing.words)}"


def _hasty(dialogue: Dialogue, number: int, rng: np.random.Generator) -> tuple[str, tuple[int, ...]]:
    """Something of a colour that the question names, or of the target's; its box is loose."""
    things, target = dialogue.things, dialogue.targets[number]
    taken = target
    if rng.random() < COLOUR_ONLY_SHARE:
        words = dialogue.rounds[number].asked.question.split()
        asked = next((word for word in words if word in COLOURS), None)
        taken = int(rng.choice([i for i, thing in enumerate(things) if asked in (None, *thing.words)] or [target]))
    item: PromptObject = loose_object(mask_to_prompt_object(things[taken].mask), rng)
    return write_answer(f"looks {things[taken].words[0]}", write_solution_multi([item])), (taken,)
