"""Answers to held-out questions of several hops: those of a policy that stops after one, and of one that does not."""

from __future__ import annotations

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.cli.demo.hops import JUDGED, Chained
from seg_zero.data.synthetic.hop_steps import write_steps
from seg_zero.evaluation.hops import HopAnswers, held_out
from seg_zero.evaluation.steps import judge_answer


def answers(name: str, questions: int, most: int) -> HopAnswers:
    """Right steps, at most ``most`` of them, and the box of the last one's object."""
    texts, judged = [], []
    for index in range(questions):
        scene, chain = held_out(name, index)
        path = chain.path[: most + 1]
        solution = write_solution_multi([scene.objects[path[-1]].prompt])
        texts.append([write_answer(write_steps(scene, path, chain.relations), solution)])
        judged.append([judge_answer(scene, chain, texts[-1][0])])
    return HopAnswers(name, texts, judged)


def chained(questions: int = 2) -> Chained:
    before, after = ({name: answers(name, questions, most) for name in JUDGED} for most in (1, 4))
    return Chained(before, after)
