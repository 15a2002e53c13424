"""Answers to held-out questions of several hops: those of a policy that stops after one, and of one that does not."""

from __future__ import annotations

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.cli.demo.hops import JUDGED, Chained
from seg_zero.data.synthetic.hop_steps import write_steps
from seg_zero.data.synthetic.hops import Chain
from seg_zero.data.synthetic.scenes import Scene
from seg_zero.evaluation.hops import HopAnswers, held_out
from seg_zero.evaluation.steps import judge_answer


def written(scene: Scene, chain: Chain, hops: int) -> str:
    """The first ``hops`` steps of a chain, all right, and the box of the object that they lead to."""
    path = chain.path[: hops + 1]
    solution = write_solution_multi([scene.objects[path[-1]].prompt])
    return write_answer(write_steps(scene, path, chain.relations), solution)


def answers(name: str, questions: int, most: int) -> HopAnswers:
    """Right steps, at most ``most`` of them."""
    drawn = [held_out(name, index) for index in range(questions)]
    texts = [[written(scene, chain, min(most, chain.hops))] for scene, chain in drawn]
    judged = [[judge_answer(scene, chain, text)] for (scene, chain), (text,) in zip(drawn, texts, strict=True)]
    return HopAnswers(name, texts, judged)


def chained(questions: int = 2) -> Chained:
    before, after = ({name: answers(name, questions, most) for name in JUDGED} for most in (1, 4))
    return Chained(before, after)
