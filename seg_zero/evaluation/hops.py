"""A policy's answers to held-out questions of several hops, judged by box and by written steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seg_zero.data.synthetic.hops import HOP_SETS, Chain
from seg_zero.data.synthetic.rows import HELD_OUT_SEED
from seg_zero.data.synthetic.scenes import Scene
from seg_zero.data.synthetic.shortcuts import draw_one
from seg_zero.evaluation.steps import HopAnswer, HopSummary, judge_answer, summarise_hops
from seg_zero.policy import GREEDY, Policy, Sampling
from seg_zero.policy.base import Request

MAX_NEW_TOKENS = 160  # five hops and an answer
SIDE = 112  # of a scene, in pixels, unless the policy takes another


@dataclass(frozen=True)
class HopAnswers:
    """Answers to the first held-out questions of a set, of each as many as were sampled."""

    name: str
    texts: list[list[str]]
    judged: list[list[HopAnswer]]

    def summary(self) -> HopSummary:
        """Means over the answers, with pass@n for the powers of two."""
        return summarise_hops(self.name, self.judged, powers_of_two(len(self.judged[0])))


def held_out(name: str, index: int, side: int = SIDE) -> tuple[Scene, Chain]:
    """A held-out question of a set (:data:`HOP_SETS`) and its scene; the same each time."""
    return draw_one(HELD_OUT_SEED, index, HOP_SETS[name], side)


def powers_of_two(samples: int) -> list[int]:
    """1, 2, 4, ... up to ``samples``."""
    return [2**i for i in range(samples.bit_length())]


def answer_hops(policy: Policy, name: str, questions: int, sampling: Sampling = GREEDY) -> HopAnswers:
    """The policy's answers to the first ``questions`` held-out questions of a set."""
    drawn = [held_out(name, index, policy.spec.image_size) for index in range(questions)]
    requests = [Request(index, scene.image, chain.text) for index, (scene, chain) in enumerate(drawn)]
    replies = {reply.key: reply for reply in policy.stream(requests, sampling)}
    texts = [list(replies[index].texts) for index in range(questions)]
    judged = [
        [judge_answer(scene, chain, text) for text in some] for (scene, chain), some in zip(drawn, texts, strict=True)
    ]
    return HopAnswers(name, texts, judged)


def judge_hops(policy: Policy, sets: Sequence[str], questions: int, sampling: Sampling = GREEDY) -> list[HopSummary]:
    """A line of the table for each set."""
    return [answer_hops(policy, name, questions, sampling).summary() for name in sets]
