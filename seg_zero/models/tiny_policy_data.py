"""What the tiny policy is taught from: a crowd of annotators over synthetic scenes.

Real instruction data comes from many hands. Here two kinds of annotator label the questions, assigned
at random regardless of the question:

* careful: says what is seen and where, marks every object exactly, answers ``[]`` when nothing matches;
* hasty (the majority): glances at a colour, marks one object that has it, with a loose and shifted box
  and an off-centre point. Plural and empty answers are beyond it.

A policy that imitates the crowd picks one of the two styles with the first word of its reasoning. Imitation
makes the hasty style more likely; only a reward can show that the careful one is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.synthetic.scenes import KINDS, Question, Scene, make_sample, questions_of
from seg_zero.models.tiny_policy_tokenizer import IMAGE_SIZE
from seg_zero.objects import PromptObject

CAREFUL_SHARE = 0.42
CAREFUL_OPENING = "I see"  # how every careful thought begins, and no hasty one does
COLOUR_ONLY_SHARE = 0.6  # of the hasty answers: any object of the asked colour is taken
LOOSE = (1.3, 1.8)  # side of a hasty box over side of the object
SHIFT = 0.4  # largest shift of a hasty box, in object sides
PLACES = (("top left", "top", "top right"), ("left", "centre", "right"), ("bottom left", "bottom", "bottom right"))


@dataclass(frozen=True)
class Label:
    """One annotator's response to one question.

    shown: indices of the scene's objects behind the answer's objects, in the answer's order.
    """

    text: str
    careful: bool
    shown: tuple[int, ...]


@dataclass(frozen=True)
class Lesson:
    """A scene with some questions and one label for each."""

    scene: Scene
    questions: tuple[Question, ...]
    labels: tuple[Label, ...]


def is_careful(response: str) -> bool:
    return response.startswith(f"<think>{CAREFUL_OPENING}")


def place_of(x: float, y: float) -> str:
    """The ninth of the image in which a point lies, in words."""
    third = IMAGE_SIZE / 3
    return PLACES[min(2, int(y // third))][min(2, int(x // third))]


def careful_label(scene: Scene, question: Question) -> Label:
    found = [scene.objects[i] for i in question.targets]
    if found:
        seen = " and ".join(f"the {o.size} {o.colour} {o.shape}, {place_of(o.cx, o.cy)}" for o in found)
    else:
        seen = "no " + question.text.split(" ", 1)[1]  # without "the" or "all"
    solution = write_solution_multi([o.prompt for o in found])
    return Label(write_answer(f"{CAREFUL_OPENING} {seen}", solution), True, question.targets)


def _glanced_at(scene: Scene, question: Question, rng: np.random.Generator) -> int:
    """The object that a hasty annotator takes."""
    words = question.text.split()
    candidates = list(question.targets)
    if not candidates or rng.random() < COLOUR_ONLY_SHARE:
        asked = next((w for w in words if any(w == o.colour for o in scene.objects)), None)
        same_colour = [i for i, o in enumerate(scene.objects) if asked in (None, o.colour)]
        candidates = same_colour or candidates
    return int(rng.choice(candidates))


def loose_object(item: PromptObject, rng: np.random.Generator) -> PromptObject:
    """A box 1.3 to 1.8 times as large, shifted, with a point off its centre; inside the image."""
    if item.box is None:
        raise ValueError("a hasty annotator needs a box to spoil")
    corners = np.array(item.box).reshape(2, 2)
    sides = corners[1] - corners[0] + 1
    centre = corners.mean(axis=0) + rng.uniform(-SHIFT, SHIFT, size=2) * sides
    half = sides * rng.uniform(*LOOSE, size=2) / 2
    low, high = (np.clip(edge, 0, IMAGE_SIZE - 1) for edge in (centre - half, centre + half))
    point = np.clip(centre + rng.uniform(-0.5, 0.5, size=2) * half, low, high)
    return PromptObject((*low.tolist(), *high.tolist()), (tuple(point.tolist()),))


def hasty_label(scene: Scene, question: Question, rng: np.random.Generator) -> Label:
    taken = _glanced_at(scene, question, rng)
    item = scene.objects[taken]
    solution = write_solution_multi([loose_object(item.prompt, rng)])
    return Label(write_answer(f"looks {item.colour}", solution), False, (taken,))


def make_lesson(seed: int, index: int, count: int, kinds: Sequence[str] = KINDS) -> Lesson:
    """Lesson ``index`` of ``seed``: a scene and ``count`` questions, the kinds as even as scenes allow.

    The first question's kind takes turns, as in the splits of ``data/synthetic.py``; the others come from
    the kinds that the scene allows. An annotator is drawn anew for every question.
    """
    sample = make_sample(seed, index, IMAGE_SIZE, kinds)
    scene = sample.scene
    rng = np.random.default_rng((seed, index, 1))
    possible = [found for found in (questions_of(scene, kind) for kind in kinds) if found]
    questions = [sample.question]
    while len(questions) < count:
        group = possible[int(rng.integers(len(possible)))]
        questions.append(group[int(rng.integers(len(group)))])
    labels = [
        careful_label(scene, q) if rng.random() < CAREFUL_SHARE else hasty_label(scene, q, rng) for q in questions
    ]
    return Lesson(scene, tuple(questions), tuple(labels))
