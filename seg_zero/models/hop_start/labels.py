"""What the start for questions of several hops is taught: single hops written down, and chains only now and then.

Annotators label questions of up to four hops, and list after the anchor the hops that were asked for. Most stop after
the first hop, whatever was asked: right for one hop, wrong for more. A few go on to a second hop, and none to a third:

* of a question of two hops, such a label is complete and right;
* of a longer one it breaks off after the second hop, without an end and an answer, so that it does not say whether to
  go on.

What a first hop leads to could be read off the question. So that it is taken from what has just been written, many
questions start from any shape ("the nearest shape above a shape") and the annotator chooses one, and others describe it
("the largest shape", "the red shape"). Where any shape will do, so will one that the first hops lead to: the annotator
leaves some of them out, so that what is left is read off the step before and not off the question.

Asked for "a shape from a shape" the annotator chooses the hops as well, and takes one after the other, so that hops are
taken late in a text, too, and the list of those that are left gets shorter. Most start from another shape than the one
that was just reached; whether another shape follows is not taught. Some go on from where the hop before led, but never
two in succession, and some labels stop before the list does: late in a text as after a first hop.

Lists are to be kept over any number of steps, and each read off the one before. Some annotators therefore pass from one
shape to any other, as if the next hop led there, and take a hop only at the end, whether the hops were asked for or
chosen; neither the names of those shapes nor that the list goes on beside them is taught, only what stands in the list
if it goes on.

A few other annotators write no thought; they too give the object of the first hop. To save time most labels are taught
without their answer, which only copies the last step; those that have one are of every length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.synthetic.hop_steps import OPENING, write_steps
from seg_zero.data.synthetic.hops import (
    CLEAR,
    RADII,
    SHAPES_IN_SCENE,
    Chain,
    Relation,
    draw_chain,
    follow,
    named_by_words,
)
from seg_zero.data.synthetic.scenes import Scene, make_scene
from seg_zero.models.tiny_policy_tokenizer import IMAGE_SIZE

SEED = 40_000
CHAINED = 0.1  # of the labels of two hops and more from one shape
CHAINED_OPEN = 0.25  # of those from any shape, and of the chosen hops that may go on from the one before
PASSED = 0.35  # of the attempts at chosen or at three and more hops: to pass from shape to shape; some find no way
STOPPED_FREE = 0.3  # of the places after a chosen hop with hops left
SILENT = 0.15  # of the labels with an answer
DESCRIBED = 0.5  # of the questions that start from one shape
ANY_SHAPE = "a shape"
ANY_HOPS = f"{ANY_SHAPE} from {ANY_SHAPE}"


@dataclass(frozen=True)
class Mix:
    """Lessons of one kind, of similar length. hops: how often questions of so many hops are asked.

    answered: how many of the labels are whole; the others end with the thought. any_shape: how many of the questions
    start from any shape. free: the annotator chooses shapes and hops.
    """

    hops: dict[int, float]
    answered: float
    any_shape: float = 0.5
    free: bool = False


SHORT = Mix({0: 0.15, 1: 0.85}, answered=0.0)
LONG = Mix({2: 0.4, 3: 0.3, 4: 0.3}, answered=0.0)
WHOLE = Mix({0: 0.2, 1: 0.4, 2: 0.4}, answered=1.0, any_shape=0.0)
FREE = Mix({1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}, answered=0.25, any_shape=1.0, free=True)
MIXES = {"short": SHORT, "long": LONG, "whole": WHOLE, "free": FREE}


@dataclass(frozen=True)
class HopLabel:
    """A label of one question.

    text: what is taught, from <think> on. ended: whether the response ends there.
    path: the objects that the thought names, as indices; of a silent label the object of the answer.
    passed: places in the path of objects that no hop leads to, although the hops of the one before stand there.
    """

    question: str
    text: str
    ended: bool
    path: tuple[int, ...]
    silent: bool = False
    passed: tuple[int, ...] = ()


@dataclass(frozen=True)
class HopLesson:
    scene: Scene
    labels: tuple[HopLabel, ...]


@cache
def pool_scene(index: int) -> Scene:
    """A scene of the pool that allows questions of two hops; it depends on ``index`` alone."""
    rng = np.random.default_rng((SEED, index))
    while True:
        scene = make_scene(rng, IMAGE_SIZE, int(rng.integers(SHAPES_IN_SCENE[0], SHAPES_IN_SCENE[1] + 1)), RADII)
        if draw_chain(scene, 2, rng) is not None:
            return scene


def label_chain(scene: Scene, chain: Chain, answered: bool, rng: np.random.Generator) -> HopLabel:
    """One annotator's label of a question, with or without its answer.

    An answered label is of up to two hops: a chain of a longer question breaks off before the answer.
    """
    if answered and rng.random() < SILENT:
        shown = chain.path[min(chain.hops, 1)]
        return HopLabel(chain.text, _response(scene, "", shown), True, (shown,), silent=True)
    path, thought, broken = _think(scene, chain, rng)
    if broken:
        return HopLabel(chain.text, f"<think>{thought}", False, path)
    return HopLabel(chain.text, _response(scene, thought, path[-1], answered), answered, path)


def _ways(scene: Scene, relation: Relation) -> dict[int, int]:
    """Where a hop leads from each object that it can be taken from, as indices."""
    return {i: found for i in range(len(scene.objects)) if (found := follow(scene, i, relation)) is not None}


def label_free(scene: Scene, chain: Chain, answered: bool, rng: np.random.Generator) -> HopLabel:
    """A chain's hops one after the other, at most two from where the one before led.

    It ends after the last hop, or where the annotator stops before; it breaks off where no hop can be taken, and
    instead of stopping after a chained one.
    """
    path: list[int] = []
    parts: list[str] = []
    chained, ended = True, True
    for number, relation in enumerate(chain.relations):
        if number and rng.random() < STOPPED_FREE:
            ended = not chained
            break
        ways = _ways(scene, relation)
        chained = not chained and path[-1] in ways and rng.random() < CHAINED_OPEN
        starts = path[-1:] if chained else [i for i in ways if i not in path[-1:]]
        if not starts:
            ended = False
            break
        start = int(rng.choice(starts))
        steps = write_steps(scene, (start, ways[start]), chain.relations[number:]).removeprefix(f"{OPENING} ")
        kept = len(path) - chained  # the shape that a chained hop starts from is there already, without the list
        path[kept:], parts[kept:] = [start, ways[start]], steps.split("; ")
    thought = f"{OPENING} {'; '.join(parts)}"
    if not ended:
        return HopLabel(ANY_HOPS, f"<think>{thought}", False, tuple(path))
    return HopLabel(ANY_HOPS, _response(scene, thought, path[-1], answered), answered, tuple(path))


def label_passed(
    scene: Scene, chain: Chain, answered: bool, rng: np.random.Generator, chosen: bool = False
) -> HopLabel | None:
    """A list that gets shorter from shape to shape, although no hop leads there; the last hop of all is taken.

    It starts from what the question names, or from any shape if that is open or hops are ``chosen``. None if there is
    no such way; with one hop, none is passed by.
    """
    is_open = chosen or _is_open(chain)
    relations = chain.relations[int(rng.integers(chain.hops)) if is_open and not chosen else 0 :]
    everywhere = range(len(scene.objects))
    path = [int(rng.integers(len(scene.objects))) if is_open else chain.anchor]
    ways = _ways(scene, relations[-1])
    for number, relation in enumerate(relations[:-1], 2):
        led_to = follow(scene, path[-1], relation)
        others = [i for i in (ways if number == len(relations) else everywhere) if i not in (path[-1], led_to)]
        if not others:
            return None
        path.append(int(rng.choice(others)))
    if path[-1] not in ways:
        return None
    passed = tuple(range(1, len(path)))
    path.append(ways[path[-1]])
    text = _response(scene, write_steps(scene, path, relations), path[-1], answered)
    return HopLabel(ANY_HOPS if chosen else chain.text, text, answered, tuple(path), passed=passed)


def _is_open(chain: Chain) -> bool:
    """Whether a question of hops starts from any shape."""
    return chain.hops > 0 and chain.text.endswith(f" {ANY_SHAPE}")


def _think(scene: Scene, chain: Chain, rng: np.random.Generator) -> tuple[tuple[int, ...], str, bool]:
    """The objects that an annotator names, the thought, and whether it breaks off there."""
    is_open = _is_open(chain)
    left_out = int(rng.integers(chain.hops)) if is_open else 0
    path, relations = chain.path[left_out:], chain.relations[left_out:]
    hops = min(len(relations), 2 if rng.random() < (CHAINED_OPEN if is_open else CHAINED) else 1)
    path = path[: hops + 1]
    return path, write_steps(scene, path, relations), hops == 2 < len(relations)


def _response(scene: Scene, thought: str, index: int, answered: bool = True) -> str:
    whole = write_answer(thought, write_solution_multi([scene.objects[index].prompt]))
    return whole if answered else whole[: whole.index("<answer>")]


def descriptions(scene: Scene, index: int) -> list[str]:
    """Ways to say which object is meant without its name: by size, by colour alone, by form alone."""
    item, others = scene.objects[index], [o for i, o in enumerate(scene.objects) if i != index]
    ways = {
        "the largest shape": all(item.radius > CLEAR * other.radius for other in others),
        "the smallest shape": all(CLEAR * item.radius < other.radius for other in others),
        f"the {item.colour} shape": all(item.colour != other.colour for other in others),
        f"the {item.shape}": all(item.shape != other.shape for other in others),
    }
    return [words for words, clear in ways.items() if clear]


def _anchors(scene: Scene, any_shape: float, rng: np.random.Generator) -> dict[int, str]:
    """What a question may start from, as :func:`draw_chain` takes it."""
    if rng.random() < any_shape:
        return dict.fromkeys(range(len(scene.objects)), ANY_SHAPE)
    ways = {index: descriptions(scene, index) for index in range(len(scene.objects))}
    described = {index: str(rng.choice(found)) for index, found in ways.items() if found}
    return described if described and rng.random() < DESCRIBED else named_by_words(scene)


def _draw(scene: Scene, hops: int, any_shape: float, rng: np.random.Generator) -> Chain | None:
    anchors = _anchors(scene, any_shape, rng)
    if hops:
        return draw_chain(scene, hops, rng, anchors=anchors)
    index = int(rng.choice(list(anchors)))
    return Chain((), (index,), anchors[index])


def make_lesson(seed: Sequence[int], scene: Scene, mix: Mix, count: int) -> HopLesson:
    """``count`` labels of questions about a scene, each by one annotator; the same for the same ``seed``."""
    rng = np.random.default_rng((SEED, 1, *seed))
    labels: list[HopLabel] = []
    while len(labels) < count:
        hops = int(rng.choice(list(mix.hops), p=list(mix.hops.values())))
        chain = _draw(scene, hops, mix.any_shape, rng)
        if chain is not None:
            label = _label(scene, chain, mix, rng)
            if label is not None:
                labels.append(label)
    return HopLesson(scene, tuple(labels))


def _label(scene: Scene, chain: Chain, mix: Mix, rng: np.random.Generator) -> HopLabel | None:
    answered = rng.random() < mix.answered
    if (mix.free or chain.hops > 2) and rng.random() < PASSED:
        return label_passed(scene, chain, answered, rng, chosen=mix.free)
    return (label_free if mix.free else label_chain)(scene, chain, answered, rng)
