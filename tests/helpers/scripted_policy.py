"""A policy that says given texts, for tests of what happens to a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from seg_zero.policy import GREEDY, Policy, Reply, Request, Sampling
from seg_zero.prompting import PromptSpec


class ScriptedPolicy(Policy):
    """Answers each question with its text, or with its several texts."""

    def __init__(self, texts: Mapping[str, str | tuple[str, ...]], in_flight: int = 4) -> None:
        self.spec, self.in_flight, self._texts = PromptSpec("brief", 112), in_flight, texts
        self.asked: list[int] = []
        self.requests: list[Request] = []

    def stream(self, requests: Iterable[Request], sampling: Sampling = GREEDY) -> Iterator[Reply]:
        for request in requests:
            self.asked.append(request.key)
            self.requests.append(request)
            texts = self._texts[request.question]
            texts = (texts,) * sampling.answers if isinstance(texts, str) else texts
            yield Reply(request.key, texts, sum(map(len, texts)), False)
