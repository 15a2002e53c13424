"""What the start for questions of several hops is taught: single hops written down, and chains only now and then.

Annotators label questions of up to four hops. Most stop after the first hop, whatever was asked: right for one hop, wrong
for more. A few go on for one hop, and no label goes on for two:

* of a question of two hops, such a label is complete and right;
* of a longer one it breaks off after the second hop, without an end and an answer, so that nothing is said about whether
  to go on.

A few other annotators write no thought; they too give the object of the first hop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.synthetic.hop_steps import write_steps
from seg_zero.data.synthetic.hops import RADII, SHAPES_IN_SCENE, Chain, draw_chain, named_by_words
from seg_zero.data.synthetic.scenes import Scene, make_scene
from seg_zero.models.tiny_policy_tokenizer import IMAGE_SIZE

SEED = 40_000
CHAINED = 0.1  # of the labels of two hops and more
SILENT = 0.08  # of all labels
HOPS = {0: 0.1, 1: 0.5, 2: 0.24, 3: 0.08, 4: 0.08}  # how often questions of so many hops are asked
THOUGHT_ONLY = 0.6  # of the labels of up to two hops: the answer is left out, to save time; of longer ones it always is


@dataclass(frozen=True)
class HopLabel:
    """A label of one question.

    text: what is taught, from <think> on. ended: whether the response ends there.
    path: the objects that the thought names, as indices; of a silent label the object of the answer.
    """

    question: str
    text: str
    ended: bool
    path: tuple[int, ...]
    silent: bool = False


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


def label_chain(scene: Scene, chain: Chain, rng: np.random.Generator) -> HopLabel:
    """One annotator's label of a question."""
    if rng.random() < SILENT:
        shown = chain.path[: min(chain.hops, 1) + 1][-1]
        return HopLabel(chain.text, _response(scene, "", shown), True, (shown,), silent=True)
    hops = min(chain.hops, 2 if rng.random() < CHAINED else 1)
    path = chain.path[: hops + 1]
    thought = write_steps(scene, path, chain.relations[:hops])
    if hops == 2 < chain.hops:
        return HopLabel(chain.text, f"<think>{thought}", False, path)
    whole = _response(scene, thought, path[-1])
    if chain.hops > 2 or rng.random() < THOUGHT_ONLY:
        return HopLabel(chain.text, whole[: whole.index("<answer>")], False, path)
    return HopLabel(chain.text, whole, True, path)


def _response(scene: Scene, thought: str, index: int) -> str:
    return write_answer(thought, write_solution_multi([scene.objects[index].prompt]))


def _draw(scene: Scene, hops: int, rng: np.random.Generator) -> Chain | None:
    if hops:
        return draw_chain(scene, hops, rng)
    named = named_by_words(scene)
    index = int(rng.choice(list(named)))
    return Chain((), (index,), named[index])


def make_lesson(index: int, scene: Scene, count: int) -> HopLesson:
    """Lesson ``index``: ``count`` questions about a scene, each labelled by one annotator."""
    rng = np.random.default_rng((SEED, index, 1))
    labels: list[HopLabel] = []
    while len(labels) < count:
        hops = int(rng.choice(list(HOPS), p=list(HOPS.values())))
        chain = _draw(scene, hops, rng)
        if chain is not None:
            labels.append(label_chain(scene, chain, rng))
    return HopLesson(scene, tuple(labels))
